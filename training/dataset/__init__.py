"""From the log to examples: segments, the point-in-time join, encoding, the order of an epoch."""
