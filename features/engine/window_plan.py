"""What a definition's windows need: which tiles, which rings over them, which sums of those."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from features.aggregations import Count, Mean, Rate, Remembering, Sum
from features.engine.columns import Wanted
from features.engine.inputs import number_of
from features.engine.tiles import COUNT, EVERY_EVENT, MEAN, SUM
from streams.expressions import Expression

Summed = Count | Rate | Sum | Mean


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

    - ``tiles``: length in ms, slack, capacity, most places of a block, number of rings.
    - ``rings``: row of ``tiles``, which of its rings, COUNT or SUM, column of the numbers or
      EVERY_EVENT.
    - ``spans``: row of ``tiles``, length in tiles; the distinct stretches to be found.
    - ``scans``: row of ``rings``, row of ``spans``; the distinct sums to be made.
    - ``outputs``: what, scan, scan of the number (means), row of ``tiles``; one per feature.
    """

    tiles: NDArray[np.int64]
    rings: NDArray[np.int64]
    spans: NDArray[np.int64]
    scans: NDArray[np.int64]
    outputs: NDArray[np.int64]


def plan_windows(features: Sequence[Summed], wanted: Wanted, lateness_ms: int) -> WindowPlan:
    """Return the tables for some features that :func:`is_summed`, outputs in their order.

    ``wanted`` says what the columns of the numbers will be; the number of an expression that is
    never missing is that of the events.
    """
    needs = [_scans(feature, wanted.never_missing) for feature in features]
    scans = list(dict.fromkeys(scan for need in needs for scan in need))
    rings = list(dict.fromkeys(scan.ring for scan in scans))
    spans = list(dict.fromkeys((scan.ring.tile_ms, scan.length) for scan in scans))
    lengths = sorted({ring.tile_ms for ring in rings})
    tiles = []
    for tile_ms in lengths:
        slack = -(-lateness_ms // tile_ms) + 1
        capacity = max(length for u, length in spans if u == tile_ms) + slack
        # A quarter more, so that expired tiles are moved away only now and then.
        most = capacity + capacity // 4 + 1
        tiles.append((tile_ms, slack, capacity, most, sum(r.tile_ms == tile_ms for r in rings)))
    ring_rows: list[tuple[int, int, int, int]] = []
    for ring in rings:
        row = lengths.index(ring.tile_ms)
        place = sum(other[0] == row for other in ring_rows)
        column = EVERY_EVENT if ring.of is None else wanted.expressions.index(ring.of)
        ring_rows.append((row, place, ring.what, column))
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


def is_summed(feature: Remembering) -> TypeGuard[Summed]:
    """Return whether a feature is made of sums over windows that end with the event's own tile."""
    return isinstance(feature, Summed) and feature.on == "events" and feature.delay_ms == 0


def _scans(feature: Summed, never_missing: set[Expression]) -> list[_Scan]:
    """Return what a feature needs to know, in the order of its columns in ``outputs``."""
    tile_ms, length = feature.tile_ms, feature.over_ms // feature.tile_ms
    of = number_of(feature)
    every = _Ring(tile_ms, COUNT, None)
    number = _Scan(every if of in never_missing else _Ring(tile_ms, COUNT, of), length)
    if isinstance(feature, Count | Rate):
        return [number]
    total = _Scan(_Ring(tile_ms, SUM, of), length)
    return [total] if isinstance(feature, Sum) else [total, number]


def _output(feature: Summed, scans: list[int], lengths: list[int]) -> tuple[int, int, int, int]:
    first, second = (*scans, -1)[:2]
    what = SUM if isinstance(feature, Sum) else MEAN if isinstance(feature, Mean) else COUNT
    return what, first, second, lengths.index(feature.tile_ms)


def _table(rows: Iterable[tuple[int, ...]], width: int) -> NDArray[np.int64]:
    return np.array(list(rows), dtype=np.int64).reshape(-1, width)
