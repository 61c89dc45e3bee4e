"""``python -m kappa``: the command line."""

from kappa.cli import main

main()
