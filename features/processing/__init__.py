"""The stages: what reads a log, keeps an engine's state, and writes the next log."""
