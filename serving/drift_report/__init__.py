"""A report of what has moved since a model's training: read from the log, shown as one page."""
