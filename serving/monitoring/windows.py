"""Sums per step of event time, and sliding windows over them.

A step begins at a multiple of ``step_ms`` since the epoch; a window is the sum of the steps that
lie in it. All sums are integers, so that they are the same whatever the order of the records,
the interleaving of the inputs and the cuts between batches.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from serving.monitoring.cells import add_up, cells_of
from streams.errors import DefinitionError

Ints = NDArray[np.int64]


def step_starts(times_ms: Ints, step_ms: int) -> Ints:
    """Return for each time the start of the step that holds it, shape (n,), milliseconds."""
    starts: Ints = times_ms - times_ms % step_ms
    return starts


def check_window(window_ms: int, step_ms: int) -> int:
    """Return the window's length; raises DefinitionError unless it is a whole number of steps."""
    if window_ms % step_ms:
        raise DefinitionError(
            f"a monitor's window of {window_ms // 1000} s with a step of {step_ms // 1000} s: "
            "windows slide by steps, so make the window a multiple of the pipeline's step"
        )
    return window_ms


class StepSums:
    """Integer vectors summed per (key, step). A key keeps the width of its first vector."""

    def __init__(self, step_ms: int) -> None:
        self.step_ms = step_ms
        self._sums: dict[str, dict[int, Ints]] = {}

    def add(self, key: str, times_ms: Ints, rows: Ints) -> None:
        """Add each row (n, K) to the step that holds its time (n,)."""
        if not len(times_ms):
            return
        starts = step_starts(times_ms, self.step_ms)
        cells, first = cells_of([starts // self.step_ms])
        for start, total in zip(
            starts[first].tolist(), add_up(cells, len(first), rows), strict=True
        ):
            self.add_total(key, start, total)

    def add_total(self, key: str, start_ms: int, total: Ints) -> None:
        """Add a vector (K,) to the step that begins at ``start_ms``."""
        steps = self._sums.setdefault(key, {})
        known = steps.get(start_ms)
        steps[start_ms] = total.copy() if known is None else known + total

    def window(self, key: str, start_ms: int, end_ms: int) -> Ints | None:
        """Return the sum over the steps in [start, end), shape (K,), or None where none has any."""
        chosen = [v for at, v in self._sums.get(key, {}).items() if start_ms <= at < end_ms]
        return np.sum(chosen, axis=0, dtype=np.int64) if chosen else None

    def steps(self, key: str, start_ms: int, end_ms: int) -> tuple[Ints, Ints]:
        """Return the steps in [start, end) that have any, in order: their starts (m,) and their
        sums (m, K); of none (0,) and (0, 0)."""
        found = self._sums.get(key, {})
        starts = sorted(at for at in found if start_ms <= at < end_ms)
        sums = np.stack([found[at] for at in starts]) if starts else np.zeros((0, 0), np.int64)
        return np.array(starts, dtype=np.int64), sums

    def names(self) -> list[str]:
        """Return the keys, sorted."""
        return sorted(self._sums)

    def merge(self, other: "StepSums") -> None:
        """Add everything that ``other`` holds."""
        for key, start, total in other.items():
            self.add_total(key, start, total)

    def drop_before(self, time_ms: int) -> None:
        """Forget the steps that begin before ``time_ms``."""
        for key, steps in list(self._sums.items()):
            kept = {at: total for at, total in steps.items() if at >= time_ms}
            if kept:
                self._sums[key] = kept
            else:
                del self._sums[key]

    def clear(self) -> None:
        """Forget everything."""
        self._sums.clear()

    def items(self) -> Iterator[tuple[str, int, Ints]]:
        """Yield (key, start of the step, sum), sorted."""
        for key in self.names():
            for start, total in sorted(self._sums[key].items()):
                yield key, start, total
