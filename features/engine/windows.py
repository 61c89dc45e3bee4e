"""Keyed windows: an entity's past as tiles, updated in log order.

A ring holds one aggregate of one entity per tile: the sum of an expression, or the number of events
(with a value). Tile ``q`` of length u covers the event times [q·u, (q+1)·u). Only tiles that hold
events are kept, oldest first, so that reading a window touches nothing else. Windows of several
lengths over the same tile length and expression share a ring.

An entity keeps capacity = (tiles of the longest window + slack) tiles back from its newest, where
slack = ⌈lateness / u⌉ + 1: each event that may still change a window finds its tile, and reads its
own windows whole. A later event reads a window where that is still whole, i.e. where its tile is at
most ``slack`` tiles behind the watermark's, else the value is missing: exact or missing, never
partly forgotten.

Sums run from the oldest tile to the newest, and within a tile in log order, so the bits depend on
the log alone.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.engine.blocks import Pieces, enlarge, levels_for, rooms, stretches
from features.engine.tiles import (
    FIRST,
    FIRST_ROOM,
    LEVEL,
    LEVELS,
    NO_BLOCK,
    SIZE,
    START,
    update_tiles,
)
from features.engine.window_plan import WindowPlan

_FIRST_SLOTS = 64
_FIRST_POOL = 4096


class WindowState:
    """The tiles of every entity of one partition.

    Per slot: ``blocks`` (rows of ``tiles``, 4) where in the pool the tiles are, see
    :mod:`features.engine.tiles`. Memory follows the tiles that hold events.
    """

    def __init__(self, plan: WindowPlan) -> None:
        self._plan = plan
        self._blocks = _no_blocks(_FIRST_SLOTS, plan)
        self._pool = np.zeros(_FIRST_POOL, dtype=np.float64)
        self._free = np.full((len(plan.tiles), LEVELS), NO_BLOCK, dtype=np.int64)
        self._top = np.zeros(1, dtype=np.int64)

    def update(
        self,
        slots: NDArray[np.int64],
        times_ms: NDArray[np.int64],
        watermarks_ms: NDArray[np.int64],
        is_late: NDArray[np.bool_],
        numbers: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Take events in log order; all arguments have length n.

        ``slots`` number the entities from 0 without gaps; ``numbers`` is (n, expressions).

        Returns:
            The features' values at each event, before it is counted in; shape (n, outputs).
        """
        plan = self._plan
        values = np.empty((len(slots), len(plan.outputs)), dtype=np.float64)
        if not len(plan.outputs) or not len(slots):
            return values
        self._make_slots(int(slots.max()) + 1)
        done = 0
        while True:
            done = update_tiles(
                done,
                slots,
                times_ms,
                watermarks_ms,
                is_late,
                numbers,
                plan.tiles,
                plan.rings,
                plan.spans,
                plan.scans,
                plan.outputs,
                self._blocks,
                self._pool,
                self._free,
                self._top,
                values,
            )
            if done == len(slots):
                return values
            self._grow_pool(int(self._top[0]))

    @property
    def nbytes(self) -> int:
        """How much memory the state takes, in bytes."""
        return self._blocks.nbytes + self._pool.nbytes

    def expired(self, slots: int, watermark_ms: int) -> NDArray[np.bool_]:
        """Return which of the first ``slots`` entities have nothing that can still be read."""
        self._make_slots(slots)
        gone = np.ones(slots, dtype=np.bool_)
        for f, (tile_ms, _, capacity, _, _) in enumerate(self._plan.tiles.tolist()):
            block = self._blocks[:slots, f]
            held = np.flatnonzero(block[:, SIZE])
            last = block[held, START] + block[held, FIRST] + block[held, SIZE] - 1
            gone[held] &= self._pool[last] <= watermark_ms // tile_ms - capacity
        return gone

    def snapshot(self, slots: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return the state of some slots, ascending, as arrays that depend on the log alone."""
        self._make_slots(int(slots[-1]) + 1 if len(slots) else 0)
        blocks = self._blocks[slots]
        tile_ids, cells = [], []
        for f, (_, _, _, most, rings) in enumerate(self._plan.tiles.tolist()):
            sizes = blocks[:, f, SIZE]
            places = stretches(blocks[:, f, START] + blocks[:, f, FIRST], sizes)
            shifts = np.repeat(rooms(blocks[:, f, LEVEL], FIRST_ROOM, most), sizes)
            tile_ids.append(self._pool[places].astype(np.int64))
            cells += [self._pool[places + (1 + r) * shifts] for r in range(rings)]
        return {
            "tile_counts": blocks[:, :, SIZE].copy(),
            "tile_ids": np.concatenate([np.empty(0, dtype=np.int64), *tile_ids]),
            "cells": np.concatenate([np.empty(0, dtype=np.float64), *cells]),
        }

    @classmethod
    def restore(
        cls, plan: WindowPlan, arrays: Mapping[str, NDArray[Any]], slots: int
    ) -> "WindowState":
        """Return the state whose :meth:`snapshot` the arrays are; ValueError if none is."""
        counts = arrays["tile_counts"]
        if counts.shape != (slots, len(plan.tiles)):
            raise ValueError(f"tile_counts has shape {counts.shape} for {slots} entities")
        if (counts < 0).any() or (counts > plan.tiles[:, 2]).any():
            raise ValueError("an entity has more tiles than its windows can hold")
        tile_ids = Pieces(arrays["tile_ids"], int(counts.sum()))
        cells = Pieces(arrays["cells"], int((counts * plan.tiles[:, 4]).sum()))
        state = cls(plan)
        state._make_slots(slots)
        blocks = state._blocks[:slots]
        for f, (_, _, _, most, rings) in enumerate(plan.tiles.tolist()):
            sizes, total = counts[:, f], int(counts[:, f].sum())
            levels = levels_for(sizes, FIRST_ROOM, most)
            places_of = rooms(levels, FIRST_ROOM, most)
            ends = int(state._top[0]) + np.cumsum(places_of * (sizes > 0)) * (1 + rings)
            blocks[:, f, START] = np.where(sizes > 0, ends - places_of * (1 + rings), NO_BLOCK)
            blocks[:, f, SIZE], blocks[:, f, LEVEL] = sizes, levels
            if len(ends):
                state._top[0] = ends[-1]
            state._grow_pool(int(state._top[0]))
            places = stretches(blocks[:, f, START], sizes)
            state._pool[places] = tile_ids.take(total)
            for r in range(rings):
                state._pool[places + (1 + r) * np.repeat(places_of, sizes)] = cells.take(total)
        return state

    def _make_slots(self, slots: int) -> None:
        held = size = len(self._blocks)
        while size < slots:
            size += size // 2
        if size > held:
            self._blocks.resize((size, *self._blocks.shape[1:]), refcheck=False)
            self._blocks[held:, :, START] = NO_BLOCK

    def _grow_pool(self, used: int) -> None:
        """See that beyond ``used`` values the pool has room for whatever one event asks for."""
        tiles = self._plan.tiles
        least = used + int((tiles[:, 3] * (1 + tiles[:, 4])).sum())
        if least > len(self._pool):
            enlarge(self._pool, least)


def _no_blocks(slots: int, plan: WindowPlan) -> NDArray[np.int64]:
    blocks = np.zeros((slots, len(plan.tiles), 4), dtype=np.int64)
    blocks[:, :, START] = NO_BLOCK
    return blocks
