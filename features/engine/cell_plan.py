"""What the windows beyond plain sums need: which tiles, which rings over them, which reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.aggregations import (
    Count,
    DistinctCount,
    First,
    Last,
    Max,
    Mean,
    Min,
    Quantile,
    Rate,
    Std,
    Sum,
    TopShare,
    Variance,
    Windowed,
)
from features.engine import cells
from features.engine.columns import Wanted
from features.engine.inputs import Text, number_of, text_of
from streams.expressions import Expression

UNBOUNDED = 1 << 40
"""Places of a block of labels: they may be about any time to come."""

_KINDS: dict[type[Windowed], int] = {
    Count: cells.COUNT,
    Rate: cells.COUNT,
    Sum: cells.SUM,
    Mean: cells.SUM,
    Variance: cells.VARIANCE,
    Std: cells.VARIANCE,
    Min: cells.MIN,
    Max: cells.MAX,
    First: cells.OLDEST,
    Last: cells.NEWEST,
    DistinctCount: cells.DISTINCT,
    Quantile: cells.QUANTILE,
    TopShare: cells.TOP,
}


class _Ring(NamedTuple):
    tile_ms: int
    kind: int
    of: Expression | Text | None  # None: every record counts
    size: int  # HyperLogLog: precision; DDSketch: buckets; Misra-Gries: counters; else 0
    range: tuple[float, float, float]  # DDSketch: low, high, accuracy


@dataclass(frozen=True)
class CellPlan:
    """Windows as tables that the compiled loop reads; int64 where nothing else is said.

    - ``families``: tile in ms, slack, capacity, most places of a block, places of the first block,
      words of a record. A tile further than ``capacity`` behind the watermark's is never read.
    - ``rings``: family, place in the record, kind, column (EVERY_RECORD: all count), size.
    - ``reads``: what, ring, ring of the number (means), length in tiles, delay in ms (NO_DELAY: the
      window ends with the event's own tile); one per feature. ``quantiles`` (reads,) are their q.
    - ``bounds`` and ``centres`` (rings, most buckets): upper bounds and values of the buckets.
    """

    families: NDArray[np.int64]
    rings: NDArray[np.int64]
    reads: NDArray[np.int64]
    quantiles: NDArray[np.float64]
    bounds: NDArray[np.float64]
    centres: NDArray[np.float64]


def plan_cells(
    features: Sequence[Windowed], wanted: Wanted, lateness_ms: int, on_labels: bool
) -> CellPlan:
    """Return the tables for some features, reads in their order, columns those of ``wanted``.

    A tile is kept while an event that is not too late may read it. With tile u and watermark m
    such an event has its own tile at ⌊m/u⌋ − slack or later, and its window reaches back from there
    by its tiles, and ⌈delay/u⌉ more and one where it has a delay. That sum is the capacity.
    """
    needs = [_rings(feature, wanted.never_missing) for feature in features]
    rings = list(dict.fromkeys(ring for need in needs for ring in need))
    lengths = sorted({ring.tile_ms for ring in rings})
    families, ring_rows = [], dict[_Ring, tuple[int, int, int, int, int]]()
    for f, tile_ms in enumerate(lengths):
        words = 1
        for ring in rings:
            if ring.tile_ms == tile_ms:
                ring_rows[ring] = (f, words, ring.kind, _column(ring.of, wanted), ring.size)
                words += _words(ring)
        slack = -(-lateness_ms // tile_ms) + 1
        back = max(_tiles_back(feature) for feature in features if feature.tile_ms == tile_ms)
        capacity = back + slack
        most = UNBOUNDED if on_labels else capacity + capacity // 4 + 1
        families.append((tile_ms, slack, capacity, most, min(4 if words <= 4 else 1, most), words))
    buckets = [_buckets(ring) for ring in rings]
    widest = max([len(b) for b, _ in buckets], default=0)
    return CellPlan(
        families=_table(families, 6),
        rings=_table([ring_rows[ring] for ring in rings], 5),
        reads=_table(
            [
                _read(feature, [rings.index(ring) for ring in need])
                for feature, need in zip(features, needs, strict=True)
            ],
            5,
        ),
        quantiles=np.array([f.q if isinstance(f, Quantile) else 0.0 for f in features], np.float64),
        bounds=_padded([bounds for bounds, _ in buckets], widest),
        centres=_padded([centres for _, centres in buckets], widest + 1),
    )


def _rings(feature: Windowed, never_missing: set[Expression]) -> list[_Ring]:
    """Return what a feature needs to know, first what it is read from."""
    of: Expression | Text | None = text_of(feature) or number_of(feature)
    size, bucket_range = 0, (0.0, 0.0, 0.0)
    if isinstance(feature, DistinctCount):
        size = feature.precision
    elif isinstance(feature, TopShare):
        size = feature.size
    elif isinstance(feature, Quantile):
        bucket_range = (feature.low, feature.high, feature.accuracy)
        size = len(_bounds(*bucket_range)) + 1
    first = _Ring(feature.tile_ms, _KINDS[type(feature)], of, size, bucket_range)
    if not isinstance(feature, Mean):
        return [first]
    every = None if of in never_missing else of
    return [first, _Ring(feature.tile_ms, cells.COUNT, every, 0, (0.0, 0.0, 0.0))]


def _words(ring: _Ring) -> int:
    """Return how many words of 64 bits a ring takes per tile."""
    match ring.kind:
        case cells.VARIANCE:
            return 3
        case cells.OLDEST | cells.NEWEST:
            return 2
        case cells.DISTINCT:
            return (1 << ring.size) // 8
        case cells.QUANTILE:
            return -(-ring.size // 2)
        case cells.TOP:
            return 1 + 2 * ring.size
        case _:
            return 1


def _tiles_back(feature: Windowed) -> int:
    delay = -(-feature.delay_ms // feature.tile_ms) + 1 if _lags(feature) else 0
    return feature.over_ms // feature.tile_ms + delay


def _lags(feature: Windowed) -> bool:
    return feature.on == "labels" or feature.delay_ms > 0


def _read(feature: Windowed, rings: list[int]) -> tuple[int, int, int, int, int]:
    what = cells.MEAN if isinstance(feature, Mean) else _KINDS[type(feature)]
    first, second = (*rings, -1)[:2]
    delay_ms = feature.delay_ms if _lags(feature) else cells.NO_DELAY
    return what, first, second, feature.over_ms // feature.tile_ms, delay_ms


def _column(of: Expression | Text | None, wanted: Wanted) -> int:
    if of is None:
        return cells.EVERY_RECORD
    return wanted.texts.index(of) if isinstance(of, Text) else wanted.expressions.index(of)


def _bounds(low: float, high: float, accuracy: float) -> list[float]:
    """Return the buckets' upper bounds, that of the last left out: it has none."""
    growth = (1.0 + accuracy) / (1.0 - accuracy)
    bounds = [float(low)]
    while bounds[-1] * growth < high:
        bounds.append(bounds[-1] * growth)
    return [*bounds, float(np.nextafter(high, 0.0))]


def _buckets(ring: _Ring) -> tuple[list[float], list[float]]:
    """Return the buckets' upper bounds and the values that they stand for.

    A value x in (b, b·γ] stands at 2·b·γ / (1 + γ), which is off by x·accuracy at most.
    """
    if ring.kind != cells.QUANTILE:
        return [], []
    low, high, accuracy = ring.range
    growth = (1.0 + accuracy) / (1.0 - accuracy)
    bounds = _bounds(low, high, accuracy)
    between = [min(b * (2.0 * growth / (1.0 + growth)), high) for b in bounds[:-1]]
    return bounds, [float(low), *between, float(high)]


def _padded(rows: Sequence[Sequence[float]], width: int) -> NDArray[np.float64]:
    table = np.full((len(rows), width), np.inf, dtype=np.float64)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table


def _table(rows: Sequence[tuple[int, ...]], width: int) -> NDArray[np.int64]:
    return np.array(rows, dtype=np.int64).reshape(-1, width)
