"""What passes through this process: records by topic, and how long each hop took them.

A worker notes a batch at a time, whoever tells it further (vitals, Prometheus) reads the sums. It
costs a search and a count in numpy per batch, whether anybody reads or not.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.wire import HOP_EDGES_MS, Hop

LIVE_WITHIN_MS = 3_600_000
"""Event times count as those of a live stream where they are so near to the clock on the wall."""

_EDGES = np.array(HOP_EDGES_MS, np.float64)


@dataclass(frozen=True)
class HopTotal:
    """All that passed a hop since the process began: ``counts`` as in :class:`streams.wire.Hop`,
    ``sum_ms`` is how long they took together."""

    counts: tuple[int, ...]
    sum_ms: float


class Ledger:
    """Sums of a process; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, NDArray[np.int64]] = {}
        self._sums_ms: dict[str, float] = {}
        self._told: dict[str, NDArray[np.int64]] = {}
        self._records: dict[str, int] = {}
        self._dead: dict[str, int] = {}
        self._figures: dict[str, float] = {}

    def note(self, name: str, milliseconds: NDArray[np.int64] | NDArray[np.float64]) -> None:
        """Add records (n,) that took so long on hop ``name``; less than 0 (two clocks) is 0."""
        if not len(milliseconds):
            return
        taken = np.maximum(milliseconds, 0)
        counts = np.bincount(np.searchsorted(_EDGES, taken), minlength=len(_EDGES) + 1)
        total_ms = float(taken.sum())
        with self._lock:
            known = self._counts.get(name)
            self._counts[name] = counts if known is None else known + counts
            self._sums_ms[name] = self._sums_ms.get(name, 0.0) + total_ms

    def note_batch(self, name: str, milliseconds: float, records: int) -> None:
        """Add so many records that took equally long on hop ``name``."""
        self.note(name, np.full(records, milliseconds))

    def count(self, topic: str, records: int) -> None:
        """Add so many records read of, or written to, ``topic``."""
        with self._lock:
            self._records[topic] = self._records.get(topic, 0) + records

    def count_dead(self, topic: str, records: int) -> None:
        """Add so many records of ``topic`` that nobody can use."""
        with self._lock:
            self._dead[topic] = self._dead.get(topic, 0) + records

    def figure(self, name: str, value: float) -> None:
        """Set a figure of the process's own, such as ``notify/pager/waiting``."""
        with self._lock:
            self._figures[name] = value

    def figures(self) -> Mapping[str, float]:
        """Return name → figure that was set."""
        with self._lock:
            return dict(self._figures)

    def since_last(self) -> tuple[Hop, ...]:
        """Return what has passed since this was asked last; one reader may ask."""
        with self._lock:
            found = []
            for name, counts in sorted(self._counts.items()):
                told = self._told.get(name)
                new = counts if told is None else counts - told
                self._told[name] = counts
                if new.any():
                    found.append(Hop(name, int(new.sum()), tuple(new.tolist())))
            return tuple(found)

    def totals(self) -> Mapping[str, HopTotal]:
        """Return hop → all that has passed."""
        with self._lock:
            return {
                name: HopTotal(tuple(counts.tolist()), self._sums_ms[name])
                for name, counts in self._counts.items()
            }

    def records(self) -> Mapping[str, int]:
        """Return topic → records."""
        with self._lock:
            return dict(self._records)

    def dead(self) -> Mapping[str, int]:
        """Return topic → records that nobody can use."""
        with self._lock:
            return dict(self._dead)


LEDGER = Ledger()
"""This process's own."""

note = LEDGER.note
note_batch = LEDGER.note_batch
count = LEDGER.count
count_dead = LEDGER.count_dead
figure = LEDGER.figure


def live(times_ms: NDArray[np.int64], now_ms: int) -> NDArray[np.int64]:
    """Return how long ago (m,) those of the event times (n,) were that are of a live stream.

    In a replay event time says nothing of how long the pipeline took.

    >>> live(np.array([10_000, 1_000]), 3_605_000).tolist()
    [3595000]
    """
    ago = now_ms - times_ms
    near: NDArray[np.int64] = ago[np.abs(ago) <= LIVE_WITHIN_MS]
    return near
