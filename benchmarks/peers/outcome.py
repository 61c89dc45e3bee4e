"""What comes of running a peer: its rates, or why there are none."""

from typing import NamedTuple


class Rates(NamedTuple):
    """Events per second of processor time (all threads of the process), and by the clock."""

    per_core: float
    per_s: float


class PeerSkippedError(Exception):
    """The peer can't be had or does not run here; the text says why."""
