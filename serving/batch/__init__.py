"""Answers for files: read in parts, answered by one model, written in parts."""
