"""The processes whose latency is compared, and what measures it."""
