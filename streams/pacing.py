"""Lets a recording pass at a chosen speed; the clock and the waiting are given from outside."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.clock import Clock
from streams.errors import ConfigurationError
from streams.merging import cut
from streams.recording import Recording

_TICK_MS = 10.0


@dataclass(frozen=True)
class Pace:
    """How fast a recording is played: as fast as possible where neither is given.

    Args:
        rate: events per second of wall time; labels pass with the events that they follow.
        speed: seconds of event time per second of wall time (1.0 is real time).
    """

    rate: float | None = None
    speed: float | None = None

    def __post_init__(self) -> None:
        """Check the figures; raises ConfigurationError."""
        if self.rate is not None and self.speed is not None:
            raise ConfigurationError(
                f"rate {self.rate} and speed {self.speed} are both given: choose one"
            )
        for name, value in (("rate", self.rate), ("speed", self.speed)):
            if value is not None and not value > 0:
                raise ConfigurationError(f"{name} {value}: must be above 0")


def paced(
    recordings: Iterable[Recording], pace: Pace, clock: Clock, wait: Callable[[float], None]
) -> Iterator[Recording]:
    """Yield the records in pieces, each when it is due; ``wait`` takes seconds.

    A consumer that falls behind is given at once what is due; no record is left out, and no
    piece is empty.
    """
    if pace.rate is None and pace.speed is None:
        yield from filter(len, recordings)
        return
    start_ms, first_ms, events = clock.now_ms(), None, 0
    for recording in recordings:
        if not len(recording):
            continue
        first_ms = int(recording.timestamps_ms[0]) if first_ms is None else first_ms
        due_ms = _due_ms(recording, pace, first_ms, events)
        events += int((~recording.is_label).sum())
        position = 0
        while position < len(recording):
            elapsed_ms = clock.now_ms() - start_ms
            stop = int(np.searchsorted(due_ms, elapsed_ms, "right"))
            if stop > position:
                yield cut(recording, position, stop)
                position = stop
            else:
                wait(max(float(due_ms[position]) - elapsed_ms, _TICK_MS) / 1000)


def _due_ms(
    recording: Recording, pace: Pace, first_ms: int, events_before: int
) -> NDArray[np.float64]:
    """Return when each record is due, (n,) ascending, in milliseconds after the start."""
    if pace.rate is not None:
        ahead = events_before + np.cumsum(~recording.is_label) - ~recording.is_label
        due_ms: NDArray[np.float64] = ahead / pace.rate * 1000
        return due_ms
    return (recording.timestamps_ms - first_ms) / (pace.speed or 1.0)
