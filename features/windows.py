"""Keyed windows: tiles in rings, one row of rings per entity, updated in log order.

A ring holds the last tiles of one aggregate of one entity: the sum of an expression per tile, or
the number of events (with a value) per tile. Windows of several lengths over the same tile length
and expression share the longest one's ring. Tile ``q`` (event times [q·u, (q+1)·u) for tile length
u) stands at place ``q mod capacity``; ``newest`` says up to which tile an entity's rings reach.

Capacity = tiles of the longest window + slack, slack = ⌈lateness / u⌉ + 1, so that each event that
may still change a window finds its tile, and reads its own windows whole. An event later than that
reads its windows where they are still whole, i.e. its tile is at most ``slack`` tiles behind the
watermark's, else they are missing: a value is exact or missing, never partly forgotten.

Sums run from the oldest tile to the newest, and within a tile in log order, so the bits depend on
the log alone.
"""

from collections.abc import Iterable
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
    of: Expression | None  # None: every event counts


@dataclass(frozen=True)
class WindowPlan:
    """A definition's windows as tables that the compiled loop reads; all int64.

    ``tiles`` rows (tile length in ms, slack in tiles). ``sums`` and ``counts`` rows (row of
    ``tiles``, first place in an entity's row, capacity, column of the numbers or −1 for every
    event). ``sum_scans`` and ``count_scans`` rows (ring, window length in tiles).
    ``outputs`` rows (what, sum scan, count scan, row of ``tiles``), one per windowed feature.
    """

    tiles: NDArray[np.int64]
    sums: NDArray[np.int64]
    counts: NDArray[np.int64]
    sum_scans: NDArray[np.int64]
    count_scans: NDArray[np.int64]
    outputs: NDArray[np.int64]
    sum_width: int
    count_width: int


def plan_windows(
    features: Iterable[WindowFeature | TimeSinceLast],
    expressions: list[Expression],
    lateness_ms: int,
) -> WindowPlan:
    """Return the tables for some features, outputs in their order.

    ``expressions`` are the columns of the numbers that :meth:`WindowState.update` will be given.
    """
    features = list(features)
    windows = [feature for feature in features if not isinstance(feature, TimeSinceLast)]
    tile_lengths = sorted({_tile_ms(window) for window in windows})
    tiles = [(u, -(-lateness_ms // u) + 1) for u in tile_lengths]
    sum_scans: dict[tuple[_Ring, int], None] = {}
    count_scans: dict[tuple[_Ring, int], None] = {}
    for window in windows:
        if isinstance(window, Sum | Mean):
            sum_scans[_sum_scan(window)] = None
        if isinstance(window, Count | Mean):
            count_scans[_count_scan(window)] = None
    sum_index, count_index = list(sum_scans), list(count_scans)
    sums, sum_rings, sum_width = _lay_out(sum_index, tiles, expressions)
    counts, count_rings, count_width = _lay_out(count_index, tiles, expressions)
    outputs = [_output(f, sum_index, count_index, tile_lengths) for f in features]
    return WindowPlan(
        tiles=_table(tiles, 2),
        sums=_table(sums, 4),
        counts=_table(counts, 4),
        sum_scans=_table([(sum_rings.index(ring), length) for ring, length in sum_index], 2),
        count_scans=_table([(count_rings.index(ring), length) for ring, length in count_index], 2),
        outputs=_table(outputs, 4),
        sum_width=sum_width,
        count_width=count_width,
    )


class WindowState:
    """The rings of every entity of one partition."""

    def __init__(self, plan: WindowPlan) -> None:
        self._plan = plan
        self._used = 0
        self._last_ms = np.full(_FIRST_SLOTS, NEVER, dtype=np.int64)
        self._newest = np.full((_FIRST_SLOTS, len(plan.tiles)), NEVER, dtype=np.int64)
        self._sums = np.zeros((_FIRST_SLOTS, plan.sum_width), dtype=np.float64)
        self._counts = np.zeros((_FIRST_SLOTS, plan.count_width), dtype=np.int64)

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
            plan.sums,
            plan.counts,
            plan.sum_scans,
            plan.count_scans,
            plan.outputs,
            self._last_ms,
            self._newest,
            self._sums,
            self._counts,
            values,
        )
        return values

    def snapshot(self) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """Return the state as plain arrays, first axis = slot."""
        used = slice(0, self._used)
        return {
            "last_ms": self._last_ms[used].copy(),
            "newest": self._newest[used].copy(),
            "sums": self._sums[used].copy(),
            "counts": self._counts[used].copy(),
        }

    def restore(
        self,
        last_ms: NDArray[np.int64],
        newest: NDArray[np.int64],
        sums: NDArray[np.float64],
        counts: NDArray[np.int64],
    ) -> None:
        """Put back what :meth:`snapshot` returned; raises ValueError where shapes don't fit."""
        n = len(last_ms)
        self._used = 0
        self._make_room(n)
        self._last_ms[:n] = last_ms
        self._newest[:n] = _fitting(newest, n, self._newest.shape[1])
        self._sums[:n] = _fitting(sums, n, self._sums.shape[1])
        self._counts[:n] = _fitting(counts, n, self._counts.shape[1])

    def _make_room(self, slots: int) -> None:
        self._used = max(self._used, slots)
        size = len(self._last_ms)
        if slots <= size:
            return
        while size < slots:
            size *= 2
        self._last_ms = _grown(self._last_ms, size, NEVER)
        self._newest = _grown(self._newest, size, NEVER)
        self._sums = _grown(self._sums, size, 0)
        self._counts = _grown(self._counts, size, 0)


def is_windowed(feature: Feature) -> bool:
    """Return whether a feature's value comes from an entity's past."""
    return isinstance(feature, Count | Sum | Mean | TimeSinceLast)


def _tile_ms(window: WindowFeature) -> int:
    return seconds(window.tile) * 1000


def _sum_scan(window: Sum | Mean) -> tuple[_Ring, int]:
    return _Ring(_tile_ms(window), window.of), seconds(window.over) // seconds(window.tile)


def _count_scan(window: Count | Mean) -> tuple[_Ring, int]:
    of = window.of if isinstance(window, Mean) else None
    return _Ring(_tile_ms(window), of), seconds(window.over) // seconds(window.tile)


def _lay_out(
    scans: list[tuple[_Ring, int]], tiles: list[tuple[int, int]], expressions: list[Expression]
) -> tuple[list[tuple[int, int, int, int]], list[_Ring], int]:
    """Return (table rows, rings in that order, width of an entity's row)."""
    longest: dict[_Ring, int] = {}
    for ring, length in scans:
        longest[ring] = max(length, longest.get(ring, 0))
    rows: list[tuple[int, int, int, int]] = []
    start = 0
    for ring, length in longest.items():
        index = [tile_ms for tile_ms, _ in tiles].index(ring.tile_ms)
        capacity = length + tiles[index][1]
        column = EVERY_EVENT if ring.of is None else expressions.index(ring.of)
        rows.append((index, start, capacity, column))
        start += capacity
    return rows, list(longest), start


def _output(
    feature: WindowFeature | TimeSinceLast,
    sum_scans: list[tuple[_Ring, int]],
    count_scans: list[tuple[_Ring, int]],
    tile_lengths: list[int],
) -> tuple[int, int, int, int]:
    match feature:
        case TimeSinceLast():
            return SINCE_LAST, -1, -1, -1
        case Count():
            what, total, number = COUNT, -1, count_scans.index(_count_scan(feature))
        case Sum():
            what, total, number = SUM, sum_scans.index(_sum_scan(feature)), -1
        case Mean():
            what = MEAN
            total = sum_scans.index(_sum_scan(feature))
            number = count_scans.index(_count_scan(feature))
    return what, total, number, tile_lengths.index(_tile_ms(feature))


def _table(rows: Iterable[tuple[int, ...]], width: int) -> NDArray[np.int64]:
    return np.array(list(rows), dtype=np.int64).reshape(-1, width)


def _grown(array: NDArray[Any], size: int, fill: int) -> NDArray[Any]:
    larger = np.full((size, *array.shape[1:]), fill, dtype=array.dtype)
    larger[: len(array)] = array
    return larger


def _fitting(array: NDArray[Any], n: int, width: int) -> NDArray[Any]:
    if array.shape != (n, width):
        raise ValueError(f"an array of shape {array.shape} where {(n, width)} was expected")
    return array
