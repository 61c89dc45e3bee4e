"""Features made again: to compare, or as another version beside the one that runs."""
