"""The lab's reports on a pipeline's own data."""
