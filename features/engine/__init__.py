"""The state of a partition: events in, rows of features out."""
