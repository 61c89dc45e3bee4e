"""A/B experiments: planned, run and reported."""
