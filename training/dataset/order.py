"""The order of an epoch: a function of (examples, rows per step, seed, epoch), and nothing else.

Where the examples are few (:data:`WHOLE_UP_TO`), their order is one permutation. Where they are
more than memory holds, random rows would be one disk access each; so blocks of consecutive rows
are shuffled, and the rows of a window of blocks among each other: what a window needs stays in the
page cache while it is read. The ranks have no part in it: each takes its share of every global
batch, so all do the same number of steps. numpy only.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

WHOLE_UP_TO = 1 << 22
BLOCK_ROWS = 1 << 12
WINDOW_BLOCKS = 1 << 8
_KEPT_WINDOWS = 2  # a batch lies in one window or across two


@dataclass(frozen=True)
class EpochOrder:
    """Global batches of ``global_rows`` rows at most, equal in size within one, each row once.

    Args:
        examples: how many rows there are.
        global_rows: of one step over all ranks.
        seed: of the training.
        epoch: from 0 on.
        whole_up_to: up to so many examples the order is one permutation.
        block_rows: consecutive rows that stay in one window, beyond that.
        window_blocks: blocks whose rows are shuffled among each other.
    """

    examples: int
    global_rows: int
    seed: int
    epoch: int
    whole_up_to: int = WHOLE_UP_TO
    block_rows: int = BLOCK_ROWS
    window_blocks: int = WINDOW_BLOCKS
    _windows: OrderedDict[int, NDArray[np.int64]] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )

    @property
    def steps(self) -> int:
        """How many global batches the epoch has; the same for every rank."""
        return math.ceil(self.examples / self.global_rows)

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return the row numbers of a global batch; IndexError where there is none."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of an epoch of {self.steps}")
        size, larger = divmod(self.examples, self.steps)  # the first batches have one row more
        start = step * size + min(step, larger)
        return self._rows(start, start + size + (step < larger))

    def _rows(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the rows at the positions [start, stop) of the order."""
        if self.examples <= self.whole_up_to:
            return self._window(0)[start:stop]
        ends = self._window_ends
        first, last = (int(w) for w in np.searchsorted(ends, [start, stop - 1], "right"))
        pieces = []
        for window in range(first, last + 1):
            begins = int(ends[window - 1]) if window else 0
            pieces.append(self._window(window)[max(0, start - begins) : stop - begins])
        return np.concatenate(pieces)

    def _window(self, window: int) -> NDArray[np.int64]:
        rows = self._windows.get(window)
        if rows is None:
            rows = self._windows[window] = self._shuffled(window)
            while len(self._windows) > _KEPT_WINDOWS:
                self._windows.popitem(last=False)
        return rows

    def _shuffled(self, window: int) -> NDArray[np.int64]:
        if self.examples <= self.whole_up_to:
            return np.random.default_rng([self.seed, self.epoch, 0]).permutation(self.examples)
        blocks = self._blocks[window * self.window_blocks : (window + 1) * self.window_blocks]
        rows = (blocks[:, None] * self.block_rows + np.arange(self.block_rows)).ravel()
        random = np.random.default_rng([self.seed, self.epoch, 4, window])
        return random.permutation(rows[rows < self.examples])

    @cached_property
    def _blocks(self) -> NDArray[np.int64]:
        """The order of the blocks."""
        count = math.ceil(self.examples / self.block_rows)
        return np.random.default_rng([self.seed, self.epoch, 3]).permutation(count)

    @cached_property
    def _window_ends(self) -> NDArray[np.int64]:
        """The position in the order at which each window ends."""
        blocks = self._blocks
        sizes = np.full(len(blocks), self.block_rows, np.int64)
        sizes[blocks == len(blocks) - 1] -= len(blocks) * self.block_rows - self.examples
        starts = np.arange(0, len(blocks), self.window_blocks)
        return np.cumsum(np.add.reduceat(sizes, starts))
