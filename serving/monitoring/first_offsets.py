"""Where each step of event time begins in the partitions of a topic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from serving.monitoring.windows import step_starts

Ints = NDArray[np.int64]


class FirstOffsets:
    """Per step and partition the offset of the first record whose time lies in the step."""

    def __init__(self, step_ms: int) -> None:
        self._step_ms = step_ms
        self._first: dict[int, dict[int, int]] = {}

    def note(self, partition: int, times_ms: Ints, offsets: Ints, from_ms: int | None) -> None:
        """Take records in log order, (n,) each; steps that begin before ``from_ms`` are over."""
        starts, rows = np.unique(step_starts(times_ms, self._step_ms), return_index=True)
        for start, row in zip(starts.tolist(), rows.tolist(), strict=True):
            if from_ms is None or start >= from_ms:
                self._first.setdefault(start, {}).setdefault(partition, int(offsets[row]))

    def of_step(self, start_ms: int) -> dict[int, int]:
        """Return partition → first offset of a step."""
        return self._first.get(start_ms, {})

    def earliest(self) -> dict[int, int]:
        """Return partition → first offset of all steps that are known."""
        return self._lowest(self._first)

    def before(self, end_ms: int, positions: Mapping[int, int]) -> dict[int, int]:
        """Return partition → next offset of a reader that has read what comes before ``end_ms``:
        that of the first record of a later step, or where reading stands, if there is none yet.

        So it is the same however far reading has run ahead.
        """
        later = self._lowest(at for at in self._first if at >= end_ms)
        return {p: min(position, later.get(p, position)) for p, position in positions.items()}

    def forget(self, before_ms: int) -> None:
        """Forget the steps that begin before."""
        self._first = {at: first for at, first in self._first.items() if at >= before_ms}

    def clear(self) -> None:
        """Forget everything."""
        self._first.clear()

    def to_json(self) -> list[list[int]]:
        """Return (start of step, partition, offset) of each."""
        return [[at, *each] for at, first in self._first.items() for each in first.items()]

    def load(self, content: Iterable[Sequence[int]]) -> None:
        """Take over what :meth:`to_json` returned."""
        for at, partition, offset in content:
            self._first.setdefault(at, {})[partition] = offset

    def _lowest(self, steps: Iterable[int]) -> dict[int, int]:
        lowest: dict[int, int] = {}
        for at in steps:
            for partition, offset in self._first[at].items():
                lowest[partition] = min(offset, lowest.get(partition, offset))
        return lowest
