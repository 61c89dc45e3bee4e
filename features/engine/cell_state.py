"""The tiles of windows beyond plain sums: fed by events or by labels, read at events.

Windows over labels are read as they stand at an event: the labels partition had been applied up to
the offset that the event's row tells. A label counts in the tile of what it is about, and is read
from the delay on. It may come at any time: a tile that no event to come can read changes nothing
more, and is forgotten; a label about what is still ahead waits in its tile. So a value is exact, or
missing at an event that came too late, never partly forgotten.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.engine.blocks import Pieces, enlarge, levels_for, stretches
from features.engine.cell_plan import CellPlan
from features.engine.cells import FIRST, LEVEL, NO_BLOCK, SIZE, START, update_cells

_FIRST_SLOTS = 64
_FIRST_POOL = 4096
_LEVELS = 48


@dataclass(frozen=True, slots=True)
class Feeds:
    """What is counted in, in the order of its log; all sequences of length m.

    ``before`` (m,) says before which read each comes, does not descend; ``marks_ms`` (m,) are the
    watermarks then, of the events; ``numbers`` (m, expressions), ``hashes`` (m, texts).
    """

    before: NDArray[np.int64]
    slots: NDArray[np.int64]
    times_ms: NDArray[np.int64]
    marks_ms: NDArray[np.int64]
    numbers: NDArray[np.float64]
    hashes: NDArray[np.int64]


class CellState:
    """The records of every entity of one partition, for one kind of feed.

    Per slot ``blocks`` (families, 4) say where in the pool its records are, see
    :mod:`features.engine.cells`. Memory follows the tiles that hold something.
    """

    def __init__(self, plan: CellPlan) -> None:
        self._plan = plan
        self._blocks = _no_blocks(_FIRST_SLOTS, plan)
        self._pool = np.zeros(_FIRST_POOL, dtype=np.float64)
        self._free = np.full((len(plan.families), _LEVELS), NO_BLOCK, dtype=np.int64)
        self._top = np.zeros(1, dtype=np.int64)

    def update(
        self,
        feeds: Feeds,
        slots: NDArray[np.int64],
        times_ms: NDArray[np.int64],
        marks_ms: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Take feeds and the events that read, each in log order.

        ``slots`` and ``marks_ms`` (n,), the watermarks, belong to the events that read.

        Returns:
            The features' values at each event, shape (n, reads).
        """
        plan = self._plan
        values = np.empty((len(slots), len(plan.reads)), dtype=np.float64)
        if not len(plan.reads):
            return values
        self._make_slots(max(int(s.max()) + 1 if len(s) else 0 for s in (slots, feeds.slots)))
        progress = np.zeros(2, dtype=np.int64)
        while not update_cells(
            progress,
            feeds.before,
            feeds.slots,
            feeds.times_ms,
            feeds.marks_ms,
            feeds.numbers,
            feeds.hashes,
            slots,
            times_ms,
            marks_ms,
            plan.families,
            plan.rings,
            plan.reads,
            plan.quantiles,
            plan.bounds,
            plan.centres,
            self._blocks,
            self._pool,
            self._free,
            self._top,
            values,
        ):
            self._grow_pool()
        return values

    @property
    def nbytes(self) -> int:
        """How much memory the state takes, in bytes."""
        return self._blocks.nbytes + self._pool.nbytes

    def expired(self, slots: int, watermark_ms: int) -> NDArray[np.bool_]:
        """Return which of the first ``slots`` entities have nothing that can still be read."""
        self._make_slots(slots)
        gone = np.ones(slots, dtype=np.bool_)
        for f, (tile_ms, _, capacity, _, _, stride) in enumerate(self._plan.families.tolist()):
            block = self._blocks[:slots, f]
            held = np.flatnonzero(block[:, SIZE])
            last = block[held, START] + (block[held, FIRST] + block[held, SIZE] - 1) * stride
            gone[held] &= self._pool[last] <= watermark_ms // tile_ms - capacity
        return gone

    def snapshot(self, prefix: str, slots: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return the state of some slots as plain arrays that depend on the log alone."""
        self._make_slots(int(slots[-1]) + 1 if len(slots) else 0)
        blocks, words = self._blocks[slots], [np.empty(0, dtype=np.int64)]
        for f, stride in enumerate(self._plan.families[:, 5].tolist()):
            starts = blocks[:, f, START] + blocks[:, f, FIRST] * stride
            places = stretches(starts, blocks[:, f, SIZE] * stride)
            words.append(self._pool.view(np.int64)[places])
        return {
            f"{prefix}_counts": blocks[:, :, SIZE].copy(),
            f"{prefix}_words": np.concatenate(words),
        }

    @classmethod
    def restore(
        cls, plan: CellPlan, prefix: str, arrays: Mapping[str, NDArray[Any]], slots: int
    ) -> "CellState":
        """Return the state whose :meth:`snapshot` the arrays are; ValueError if none is."""
        counts, words = arrays[f"{prefix}_counts"], arrays[f"{prefix}_words"]
        if counts.shape != (slots, len(plan.families)):
            raise ValueError(f"{prefix}_counts has shape {counts.shape} for {slots} entities")
        if (counts < 0).any() or (counts > plan.families[:, 3]).any():
            raise ValueError("an entity has more tiles than its windows can hold")
        pieces = Pieces(words, int((counts * plan.families[:, 5]).sum()))
        state = cls(plan)
        state._make_slots(slots)
        blocks, top = state._blocks[:slots], 0
        for f, (_, _, _, most, first, stride) in enumerate(plan.families.tolist()):
            sizes = counts[:, f]
            levels = levels_for(sizes, first, most)
            taken = np.minimum(first << levels, most) * (sizes > 0) * stride
            ends = top + np.cumsum(taken)
            blocks[:, f, START] = np.where(sizes > 0, ends - taken, NO_BLOCK)
            blocks[:, f, SIZE], blocks[:, f, LEVEL] = sizes, levels
            top = int(ends[-1]) if len(ends) else top
            state._top[0] = top
            if top > len(state._pool):
                enlarge(state._pool, top)
            places = stretches(blocks[:, f, START], sizes * stride)
            state._pool.view(np.int64)[places] = pieces.take(len(places))
        return state

    def _make_slots(self, slots: int) -> None:
        held = size = len(self._blocks)
        while size < slots:
            size += size // 2
        if size > held:
            self._blocks.resize((size, *self._blocks.shape[1:]), refcheck=False)
            self._blocks[held:, :, START] = NO_BLOCK

    def _grow_pool(self) -> None:
        """Make room for whatever one more record asks for."""
        plan = self._plan
        levels = self._blocks[:, :, LEVEL].max(axis=0, initial=0) + 1
        most = np.minimum(plan.families[:, 4] << levels, plan.families[:, 3]) * plan.families[:, 5]
        enlarge(self._pool, int(self._top[0]) + int(most.sum()))


def _no_blocks(slots: int, plan: CellPlan) -> NDArray[np.int64]:
    blocks = np.zeros((slots, len(plan.families), 4), dtype=np.int64)
    blocks[:, :, START] = NO_BLOCK
    return blocks
