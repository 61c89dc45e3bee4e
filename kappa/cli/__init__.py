"""The command line."""

from kappa.cli.main import main

__all__ = ["main"]
