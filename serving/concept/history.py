"""Where in a stream of losses a change began, and what was before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.concept.detector import Floats

Ints = NDArray[np.int64]

Sums = tuple[int, float, float]
"""How many losses, their sum, the sum of their squares."""

STRIDE = 32
MOST = 32_768


@dataclass(frozen=True)
class Place:
    """The record of a loss: the event's time, and partition and offset of its label; and the sums
    of losses before it."""

    time_ms: int
    partition: int
    offset: int
    before: Sums


def sums_of(losses: Floats) -> Sums:
    """Return the sums of losses (n,)."""
    return len(losses), float(losses.sum()), float((losses**2).sum())


def less(whole: Sums, part: Sums) -> Sums:
    """Return what is left of sums without a part of them."""
    return whole[0] - part[0], whole[1] - part[1], whole[2] - part[2]


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

    def since(self, index: int) -> Sums:
        """Return the sums of the losses from the first kept place at or after ``index`` on."""
        return less((self.n, self._sum, self._squares), self._before(self._first(index)))

    def place(self, index: int, since: int = 0) -> Place:
        """Return the last kept place that is not after the ``index``-th loss, and the sums of the
        losses before it, those before the ``since``-th left out."""
        at = max(0, int(np.searchsorted(self._whole[:, 0], index, side="right")) - 1)
        begin = min(at, self._first(since))
        time, partition, offset = (int(x) for x in self._whole[at, 1:])
        return Place(time, partition, offset, less(self._before(at), self._before(begin)))

    def _first(self, index: int) -> int:
        return int(np.searchsorted(self._whole[:, 0], index, side="left"))

    def _before(self, at: int) -> Sums:
        """Return the sums of all losses before a kept place; of the one after the last, of all."""
        if at == len(self._whole):
            return self.n, self._sum, self._squares
        return int(self._whole[at, 0]), float(self._sums[at, 0]), float(self._sums[at, 1])

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
