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

from features.tiles import (
    FIRST,
    FIRST_ROOM,
    LEVEL,
    LEVELS,
    NEVER,
    NO_BLOCK,
    SIZE,
    START,
    update_tiles,
)
from features.window_plan import WindowPlan

_FIRST_SLOTS = 64
_FIRST_POOL = 4096


class WindowState:
    """The tiles of every entity of one partition.

    Per slot: ``last_ms`` the newest event time; ``blocks`` (rows of ``tiles``, 4) where in the
    pool the tiles are, see :mod:`features.tiles`. Memory follows the tiles that hold events.
    """

    def __init__(self, plan: WindowPlan) -> None:
        self._plan = plan
        self._used = 0
        self._last_ms = np.full(_FIRST_SLOTS, NEVER, dtype=np.int64)
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
        self._make_slots(int(slots.max()) + 1 if len(slots) else 0)
        plan = self._plan
        values = np.empty((len(slots), len(plan.outputs)), dtype=np.float64)
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
                self._last_ms,
                self._blocks,
                self._pool,
                self._free,
                self._top,
                values,
            )
            if done == len(slots):
                return values
            self._grow_pool(0)

    @property
    def nbytes(self) -> int:
        """How much memory the state takes, in bytes."""
        return self._last_ms.nbytes + self._blocks.nbytes + self._pool.nbytes

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return the state as plain arrays that depend on the log alone."""
        blocks = self._blocks[: self._used]
        tile_ids, cells = [], []
        for f, (_, _, _, most, rings) in enumerate(self._plan.tiles.tolist()):
            sizes = blocks[:, f, SIZE]
            places = _stretches(blocks[:, f, START] + blocks[:, f, FIRST], sizes)
            rooms = np.repeat(_rooms(blocks[:, f, LEVEL], most), sizes)
            tile_ids.append(self._pool[places].astype(np.int64))
            cells += [self._pool[places + (1 + r) * rooms] for r in range(rings)]
        return {
            "last_ms": self._last_ms[: self._used].copy(),
            "tile_counts": blocks[:, :, SIZE].copy(),
            "tile_ids": np.concatenate([np.empty(0, dtype=np.int64), *tile_ids]),
            "cells": np.concatenate([np.empty(0, dtype=np.float64), *cells]),
        }

    @classmethod
    def restore(cls, plan: WindowPlan, arrays: Mapping[str, NDArray[Any]]) -> "WindowState":
        """Return the state whose :meth:`snapshot` the arrays are; ValueError if none is."""
        last_ms, counts = arrays["last_ms"], arrays["tile_counts"]
        if counts.shape != (len(last_ms), len(plan.tiles)):
            raise ValueError(f"tile_counts has shape {counts.shape} for {len(last_ms)} entities")
        if (counts < 0).any() or (counts > plan.tiles[:, 2]).any():
            raise ValueError("an entity has more tiles than its windows can hold")
        tile_ids, cells = _Pieces(arrays["tile_ids"]), _Pieces(arrays["cells"])
        state = cls(plan)
        state._make_slots(len(last_ms))
        state._last_ms[: len(last_ms)] = last_ms
        blocks = state._blocks[: len(last_ms)]
        for f, (_, _, _, most, rings) in enumerate(plan.tiles.tolist()):
            sizes, total = counts[:, f], int(counts[:, f].sum())
            levels = np.zeros(len(sizes), dtype=np.int64)
            while (small := _rooms(levels, most) < sizes).any():
                levels += small
            rooms = _rooms(levels, most)
            ends = int(state._top[0]) + np.cumsum(rooms * (sizes > 0)) * (1 + rings)
            blocks[:, f, START] = np.where(sizes > 0, ends - rooms * (1 + rings), NO_BLOCK)
            blocks[:, f, SIZE], blocks[:, f, LEVEL] = sizes, levels
            state._top[0] = ends[-1] if len(ends) else 0
            state._grow_pool(int(state._top[0]))
            places = _stretches(blocks[:, f, START], sizes)
            state._pool[places] = tile_ids.take(total)
            for r in range(rings):
                state._pool[places + (1 + r) * np.repeat(rooms, sizes)] = cells.take(total)
        tile_ids.finish()
        cells.finish()
        return state

    def _make_slots(self, slots: int) -> None:
        self._used = max(self._used, slots)
        size = len(self._last_ms)
        while size < slots:
            size *= 2
        added = size - len(self._last_ms)
        if added:
            self._last_ms = np.append(self._last_ms, np.full(added, NEVER, dtype=np.int64))
            self._blocks = np.append(self._blocks, _no_blocks(added, self._plan), axis=0)

    def _grow_pool(self, least: int) -> None:
        """Double the pool, and make room for any one event and for ``least`` values."""
        tiles = self._plan.tiles
        least = max(least, int(self._top[0])) + int((tiles[:, 3] * (1 + tiles[:, 4])).sum())
        larger = np.zeros(max(least, 2 * len(self._pool)), dtype=np.float64)
        used = min(int(self._top[0]), len(self._pool))
        larger[:used] = self._pool[:used]
        self._pool = larger


class _Pieces:
    """Hands out an array piece by piece, and sees that it comes out even."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        self._at = 0

    def take(self, n: int) -> NDArray[Any]:
        """Return the next ``n`` values; raises ValueError where fewer are left."""
        piece = self._array[self._at : self._at + n]
        self._at += n
        if len(piece) != n:
            raise ValueError("it ends too early")
        return piece

    def finish(self) -> None:
        """Raise ValueError where values are left."""
        if self._at != len(self._array):
            raise ValueError("it holds more than its tiles need")


def _no_blocks(slots: int, plan: WindowPlan) -> NDArray[np.int64]:
    blocks = np.zeros((slots, len(plan.tiles), 4), dtype=np.int64)
    blocks[:, :, START] = NO_BLOCK
    return blocks


def _rooms(levels: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the places of blocks, shape as ``levels``."""
    rooms: NDArray[np.int64] = np.minimum(FIRST_ROOM << levels, most)
    return rooms


def _stretches(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return all places of the stretches [start, start + size), one after the other."""
    before = np.cumsum(sizes) - sizes
    places: NDArray[np.int64] = np.repeat(starts - before, sizes) + np.arange(sizes.sum())
    return places
