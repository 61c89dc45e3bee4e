"""Where in a stream of losses a change began, and what was before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.concept.detector import Floats

Ints = NDArray[np.int64]

STRIDE = 32
MOST = 32_768


@dataclass(frozen=True)
class Place:
    """The record of the ``index``-th loss: the event's time, and partition and offset of its label;
    and of all losses before it the number, the sum, and the sum of squares."""

    time_ms: int
    partition: int
    offset: int
    before: tuple[int, float, float]


class LossHistory:
    """The places of losses since the detector began anew. Of the newest closing each is kept, of
    older ones every :data:`STRIDE`-th, and fewer where they get too many."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.n = 0
        self._sum = self._squares = 0.0
        self._stride = STRIDE
        self._whole = np.empty((0, 4), np.int64)  # index, time, partition, offset
        self._sums = np.empty((0, 2))

    def add(self, losses: Floats, places: Ints) -> None:
        """Take losses (n,) and their (time, partition, offset), (n, 3), of one closing."""
        self._thin()
        index = np.arange(self.n, self.n + len(losses))
        sums = np.empty((len(losses) + 1, 2))
        sums[0] = self._sum, self._squares
        sums[1:, 0], sums[1:, 1] = losses, losses**2
        np.cumsum(sums, axis=0, out=sums)  # of all before each, and of all
        self._whole = np.concatenate([self._whole, np.column_stack([index, places])])
        self._sums = np.concatenate([self._sums, sums[:-1]])
        self.n += len(losses)
        self._sum, self._squares = (float(x) for x in sums[-1])

    @property
    def totals(self) -> tuple[int, float, float]:
        """How many losses, their sum and the sum of their squares."""
        return self.n, self._sum, self._squares

    def place(self, index: int) -> Place:
        """Return the last kept place that is not after the ``index``-th loss."""
        at = max(0, int(np.searchsorted(self._whole[:, 0], index, side="right")) - 1)
        n, time, partition, offset = (int(x) for x in self._whole[at])
        total, squares = (float(x) for x in self._sums[at])
        return Place(time, partition, offset, (n, total, squares))

    def _thin(self) -> None:
        kept = self._whole[:, 0] % self._stride == 0
        while int(kept.sum()) > MOST:
            self._stride *= 2
            kept = self._whole[:, 0] % self._stride == 0
        self._whole, self._sums = self._whole[kept], self._sums[kept]

    def snapshot(self) -> tuple[Any, Mapping[str, NDArray[Any]]]:
        """Return (JSON, arrays)."""
        content = {"n": self.n, "sum": self._sum, "squares": self._squares, "stride": self._stride}
        return content, {"places": self._whole, "sums": self._sums}

    def load(self, content: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`snapshot` returned."""
        self.n, self._stride = int(content["n"]), int(content["stride"])
        self._sum, self._squares = float(content["sum"]), float(content["squares"])
        self._whole = np.array(arrays["places"], np.int64)
        self._sums = np.array(arrays["sums"], np.float64)
