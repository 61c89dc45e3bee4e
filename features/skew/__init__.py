"""What is served against what the log gives."""
