"""Sums by the events' time, told again whenever late labels have changed them. Pure.

A label belongs to the step of its event, which may have closed long ago. What has arrived waits
until the step of its arrival closes, so that what is told at a closing is a function of the labels
before it, and not of how far reading had got.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.monitoring.windows import StepSums
from serving.performance.packing import pack, unpack
from streams.durations import seconds

Ints = NDArray[np.int64]

HORIZON_MS = seconds("60d") * 1000
"""How long after the event a label still counts: as long as the matcher waits for it."""


class ByEvent:
    """Vectors per (slice, step of event time), and how often each was told."""

    def __init__(self, step_ms: int) -> None:
        self._sums = StepSums(step_ms)
        self._waiting: dict[int, StepSums] = {}  # by the start of the step of arrival
        self._told: dict[tuple[str, int], int] = {}
        self._step_ms = step_ms

    def add(self, key: str, arrived_ms: int, happened_ms: int, total: Ints) -> None:
        """Add a vector that arrived in the step that begins at ``arrived_ms``."""
        waiting = self._waiting.get(arrived_ms)
        if waiting is None:
            waiting = self._waiting[arrived_ms] = StepSums(self._step_ms)
        waiting.add_total(key, happened_ms, total)

    def close(self, end_ms: int, minimum: int) -> Iterator[tuple[str, int, Ints, int]]:
        """Take in what arrived before ``end_ms``, and yield (key, start of the step, sums, how
        often they were told before) of what has changed, sorted; once it counts ``minimum``."""
        changed = set()
        oldest_ms = end_ms - HORIZON_MS
        for arrived_ms in sorted(at for at in self._waiting if at < end_ms):
            for key, start, total in self._waiting.pop(arrived_ms).items():
                if start >= oldest_ms:
                    self._sums.add_total(key, start, total)
                    changed.add((key, start))
        for key, start in sorted(changed, key=lambda at: (at[1], at[0])):
            found = self._sums.window(key, start, start + self._step_ms)
            if found is None or found[0] < minimum:
                continue
            before = self._told.get((key, start), 0)
            self._told[key, start] = before + 1
            yield key, start, found, before
        self._sums.drop_before(oldest_ms)
        self._told = {at: n for at, n in self._told.items() if at[1] >= oldest_ms}

    def snapshot(self) -> tuple[Any, dict[str, NDArray[Any]]]:
        """Return (JSON, arrays)."""
        keys, arrays = pack(self._sums, "event")
        waiting = []
        for arrived_ms, sums in sorted(self._waiting.items()):
            found, more = pack(sums, f"waiting{arrived_ms}")
            waiting.append([arrived_ms, found])
            arrays |= more
        told = [[key, start, n] for (key, start), n in sorted(self._told.items())]
        return {"keys": keys, "waiting": waiting, "told": told}, arrays

    def load(self, content: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`snapshot` returned."""
        self._sums = unpack(self._step_ms, content["keys"], arrays, "event")
        self._waiting = {
            int(at): unpack(self._step_ms, keys, arrays, f"waiting{at}")
            for at, keys in content["waiting"]
        }
        self._told = {(str(key), int(start)): int(n) for key, start, n in content["told"]}
