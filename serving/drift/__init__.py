"""The statistics of data drift: a window's counts against a model's reference. Pure."""
