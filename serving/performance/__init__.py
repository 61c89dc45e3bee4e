"""How well models answer: figures from matched labels, by window, slice, version and event time."""
