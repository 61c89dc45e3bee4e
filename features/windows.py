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

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.definition import Count, Feature, Mean, Sum, TimeSinceLast, WindowFeature
from features.tiles import COUNT, EVERY_EVENT, MEAN, NEVER, SINCE_LAST, SUM, update_tiles
from streams.durations import seconds
from streams.expressions import Expression

_FIRST_SLOTS = 64


class _Ring(NamedTuple):
    tile_ms: int
    what: int  # COUNT or SUM
    of: Expression | None  # None: every event counts


class _Scan(NamedTuple):
    ring: _Ring
    length: int  # in tiles


@dataclass(frozen=True)
class WindowPlan:
    """A definition's windows as tables that the compiled loop reads; all int64.

    - ``tiles``: length in ms, slack, capacity, first place in a row of tile ids, places there.
    - ``rings``: row of ``tiles``, first place in a row of cells, COUNT or SUM, column of the
      numbers or EVERY_EVENT.
    - ``spans``: row of ``tiles``, length in tiles; the distinct stretches to be found.
    - ``scans``: row of ``rings``, row of ``spans``; the distinct sums to be made.
    - ``outputs``: what, scan, scan of the number (means), row of ``tiles``; one per feature.
    """

    tiles: NDArray[np.int64]
    rings: NDArray[np.int64]
    spans: NDArray[np.int64]
    scans: NDArray[np.int64]
    outputs: NDArray[np.int64]

    @property
    def tile_width(self) -> int:
        """Places of an entity's row of tile ids."""
        return int(self.tiles[:, 4].sum())

    @property
    def cell_width(self) -> int:
        """Places of an entity's row of cells."""
        return int(self.tiles[self.rings[:, 0], 4].sum())


def plan_windows(
    features: Iterable[WindowFeature | TimeSinceLast],
    expressions: list[Expression],
    never_missing: set[Expression],
    lateness_ms: int,
) -> WindowPlan:
    """Return the tables for some features, outputs in their order.

    ``expressions`` are the columns of the numbers that :meth:`WindowState.update` will be given;
    those in ``never_missing`` have a value at each event, so their number is that of the events.
    """
    features = list(features)
    needs = [_scans(feature, never_missing) for feature in features]
    scans = list(dict.fromkeys(scan for need in needs for scan in need))
    rings = list(dict.fromkeys(scan.ring for scan in scans))
    spans = list(dict.fromkeys((scan.ring.tile_ms, scan.length) for scan in scans))
    lengths = sorted({ring.tile_ms for ring in rings})
    tiles, start = [], 0
    for tile_ms in lengths:
        slack = -(-lateness_ms // tile_ms) + 1
        capacity = max(length for u, length in spans if u == tile_ms) + slack
        # A quarter more, so that expired tiles are moved away only now and then.
        room = capacity + capacity // 4 + 1
        tiles.append((tile_ms, slack, capacity, start, room))
        start += room
    ring_rows, start = [], 0
    for ring in rings:
        row = lengths.index(ring.tile_ms)
        column = EVERY_EVENT if ring.of is None else expressions.index(ring.of)
        ring_rows.append((row, start, ring.what, column))
        start += tiles[row][4]
    return WindowPlan(
        tiles=_table(tiles, 5),
        rings=_table(ring_rows, 4),
        spans=_table([(lengths.index(tile_ms), length) for tile_ms, length in spans], 2),
        scans=_table(
            [(rings.index(s.ring), spans.index((s.ring.tile_ms, s.length))) for s in scans], 2
        ),
        outputs=_table(
            [
                _output(feature, [scans.index(scan) for scan in need], lengths)
                for feature, need in zip(features, needs, strict=True)
            ],
            4,
        ),
    )


class WindowState:
    """The tiles of every entity of one partition.

    Per slot: ``last_ms`` the newest event time; ``held`` (row of ``tiles``, 2) where the held tiles
    begin and how many they are; ``tile_ids`` and ``cells`` the tiles' numbers and aggregates.
    """

    def __init__(self, plan: WindowPlan) -> None:
        self._plan = plan
        self._used = 0
        self._last_ms = np.full(_FIRST_SLOTS, NEVER, dtype=np.int64)
        self._held = np.zeros((_FIRST_SLOTS, len(plan.tiles), 2), dtype=np.int64)
        self._tile_ids = np.zeros((_FIRST_SLOTS, plan.tile_width), dtype=np.int64)
        self._cells = np.zeros((_FIRST_SLOTS, plan.cell_width), dtype=np.float64)

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
        self._make_room(int(slots.max()) + 1 if len(slots) else 0)
        plan = self._plan
        values = np.empty((len(slots), len(plan.outputs)), dtype=np.float64)
        update_tiles(
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
            self._held,
            self._tile_ids,
            self._cells,
            values,
        )
        return values

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return the state as plain arrays that depend on the log alone; only tiles in use."""
        held = self._held[: self._used]
        tile_ids, cells = [], []
        for f, (_, _, _, start, room) in enumerate(self._plan.tiles.tolist()):
            places = np.arange(room)
            first, size = held[:, f, 0:1], held[:, f, 1:2]
            live = (places >= first) & (places < first + size)
            tile_ids.append(self._tile_ids[: self._used, start : start + room][live])
            cells += [ring[: self._used][live] for ring in self._rings_of(f)]
        return {
            "last_ms": self._last_ms[: self._used].copy(),
            "tile_counts": held[:, :, 1].copy(),
            "tile_ids": np.concatenate([np.empty(0, dtype=np.int64), *tile_ids]),
            "cells": np.concatenate([np.empty(0, dtype=np.float64), *cells]),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Put back what :meth:`snapshot` returned; raises ValueError where it does not fit."""
        last_ms, sizes = arrays["last_ms"], arrays["tile_counts"]
        tile_ids, cells = _Reader(arrays["tile_ids"]), _Reader(arrays["cells"])
        self._used = 0
        self._make_room(len(last_ms))
        if (sizes < 0).any() or (sizes > self._plan.tiles[:, 2]).any():
            raise ValueError("an entity has more tiles than its windows can hold")
        self._last_ms[: self._used] = last_ms
        self._held[: self._used, :, 0] = 0
        self._held[: self._used, :, 1] = sizes
        for f, (_, _, _, start, room) in enumerate(self._plan.tiles.tolist()):
            live = np.arange(room) < sizes[:, f : f + 1]
            n = int(sizes[:, f].sum())
            self._tile_ids[: self._used, start : start + room][live] = tile_ids.take(n)
            for ring in self._rings_of(f):
                ring[: self._used][live] = cells.take(n)
        tile_ids.finish()
        cells.finish()

    def _rings_of(self, family: int) -> list[NDArray[np.float64]]:
        """Return views of the cells of the rings over a tile length, each (slots, places)."""
        room = int(self._plan.tiles[family, 4])
        rings = self._plan.rings[self._plan.rings[:, 0] == family]
        return [self._cells[:, start : start + room] for start in rings[:, 1].tolist()]

    def _make_room(self, slots: int) -> None:
        self._used = max(self._used, slots)
        size = len(self._last_ms)
        if slots <= size:
            return
        while size < slots:
            size *= 2
        added = size - len(self._last_ms)
        self._last_ms = np.append(self._last_ms, np.full(added, NEVER, dtype=np.int64))
        self._held = _grown(self._held, size)
        self._tile_ids = _grown(self._tile_ids, size)
        self._cells = _grown(self._cells, size)


class _Reader:
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


def is_windowed(feature: Feature) -> bool:
    """Return whether a feature's value comes from an entity's past."""
    return isinstance(feature, Count | Sum | Mean | TimeSinceLast)


def _scans(feature: WindowFeature | TimeSinceLast, never_missing: set[Expression]) -> list[_Scan]:
    """Return what a feature needs to know, in the order of its columns in ``outputs``."""
    if isinstance(feature, TimeSinceLast):
        return []
    tile_ms, length = seconds(feature.tile) * 1000, seconds(feature.over) // seconds(feature.tile)
    events = _Scan(_Ring(tile_ms, COUNT, None), length)
    if isinstance(feature, Count):
        return [events]
    total = _Scan(_Ring(tile_ms, SUM, feature.of), length)
    if isinstance(feature, Sum):
        return [total]
    with_value = _Scan(_Ring(tile_ms, COUNT, feature.of), length)
    return [total, events if feature.of in never_missing else with_value]


def _output(
    feature: WindowFeature | TimeSinceLast, scans: list[int], lengths: list[int]
) -> tuple[int, int, int, int]:
    first, second = (*scans, -1, -1)[:2]
    match feature:
        case TimeSinceLast():
            return SINCE_LAST, -1, -1, -1
        case Count():
            what = COUNT
        case Sum():
            what = SUM
        case Mean():
            what = MEAN
    return what, first, second, lengths.index(seconds(feature.tile) * 1000)


def _table(rows: Iterable[tuple[int, ...]], width: int) -> NDArray[np.int64]:
    return np.array(list(rows), dtype=np.int64).reshape(-1, width)


def _grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    """Return the array with zeros after it; memory is taken only where it is written."""
    larger = np.zeros((size, *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger
