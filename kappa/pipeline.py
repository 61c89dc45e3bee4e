"""Moved: see :mod:`serving.pipeline`."""

from serving.pipeline import Pipeline

__all__ = ["Pipeline"]
