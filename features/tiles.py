"""The compiled loop over events that reads and updates the rings of :mod:`features.windows`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.compiled import compiled

NEVER = np.iinfo(np.int64).min
"""Newest tile or event time of an entity that has none."""
EVERY_EVENT = -1
COUNT, SUM, MEAN, SINCE_LAST = range(4)


@compiled
def update_tiles(
    slots: NDArray[np.int64],
    times_ms: NDArray[np.int64],
    watermarks_ms: NDArray[np.int64],
    is_late: NDArray[np.bool_],
    numbers: NDArray[np.float64],
    tiles: NDArray[np.int64],
    sums: NDArray[np.int64],
    counts: NDArray[np.int64],
    sum_scans: NDArray[np.int64],
    count_scans: NDArray[np.int64],
    outputs: NDArray[np.int64],
    last_ms: NDArray[np.int64],
    newest: NDArray[np.int64],
    sum_rings: NDArray[np.float64],
    count_rings: NDArray[np.int64],
    values: NDArray[np.float64],
) -> None:
    """Write each event's values, shape (n, outputs), then count the event in.

    The tables are those of :class:`features.windows.WindowPlan`, the state that of
    :class:`features.windows.WindowState`.
    """
    tile_of = np.empty(len(tiles), dtype=np.int64)
    is_whole = np.empty(len(tiles), dtype=np.bool_)
    sum_found = np.empty(len(sum_scans), dtype=np.float64)
    count_found = np.empty(len(count_scans), dtype=np.int64)
    for i in range(len(slots)):
        slot = slots[i]
        for f in range(len(tiles)):
            tile_of[f] = times_ms[i] // tiles[f, 0]
            is_whole[f] = tile_of[f] >= watermarks_ms[i] // tiles[f, 0] - tiles[f, 1]
        for k in range(len(sum_scans)):
            ring, length = sum_scans[k, 0], sum_scans[k, 1]
            f, start, capacity = sums[ring, 0], sums[ring, 1], sums[ring, 2]
            sum_found[k] = 0.0
            if is_whole[f]:
                until = min(tile_of[f], newest[slot, f])
                sum_found[k] = _sum_between(
                    sum_rings[slot, start : start + capacity], tile_of[f] - length + 1, until
                )
        for k in range(len(count_scans)):
            ring, length = count_scans[k, 0], count_scans[k, 1]
            f, start, capacity = counts[ring, 0], counts[ring, 1], counts[ring, 2]
            count_found[k] = 0
            if is_whole[f]:
                until = min(tile_of[f], newest[slot, f])
                count_found[k] = _count_between(
                    count_rings[slot, start : start + capacity], tile_of[f] - length + 1, until
                )
        for o in range(len(outputs)):
            what, f = outputs[o, 0], outputs[o, 3]
            if what == SINCE_LAST:
                values[i, o] = _seconds_since(last_ms[slot], times_ms[i])
            elif not is_whole[f]:
                values[i, o] = np.nan
            elif what == COUNT:
                values[i, o] = count_found[outputs[o, 2]]
            elif what == SUM:
                values[i, o] = sum_found[outputs[o, 1]]
            else:
                number = count_found[outputs[o, 2]]
                values[i, o] = sum_found[outputs[o, 1]] / number if number > 0 else np.nan
        last_ms[slot] = max(last_ms[slot], times_ms[i])
        if not is_late[i]:
            for r in range(len(sums)):
                _advance(sum_rings[slot], newest[slot, sums[r, 0]], tile_of[sums[r, 0]], sums[r])
            for r in range(len(counts)):
                f = counts[r, 0]
                _advance(count_rings[slot], newest[slot, f], tile_of[f], counts[r])
            for f in range(len(tiles)):
                newest[slot, f] = max(newest[slot, f], tile_of[f])
            for r in range(len(sums)):
                number = numbers[i, sums[r, 3]]
                if not np.isnan(number):
                    sum_rings[slot, sums[r, 1] + tile_of[sums[r, 0]] % sums[r, 2]] += number
            for r in range(len(counts)):
                column = counts[r, 3]
                if column == EVERY_EVENT or not np.isnan(numbers[i, column]):
                    count_rings[slot, counts[r, 1] + tile_of[counts[r, 0]] % counts[r, 2]] += 1


@compiled
def _sum_between(ring: NDArray[np.float64], oldest: int, newest: int) -> float:
    """Return the sum of the tiles from ``oldest`` to ``newest``, added in this order."""
    total = 0.0
    if newest >= oldest:
        first = oldest % len(ring)
        end = first + newest - oldest + 1
        for place in range(first, min(end, len(ring))):
            total += ring[place]
        for place in range(end - len(ring)):
            total += ring[place]
    return total


@compiled
def _count_between(ring: NDArray[np.int64], oldest: int, newest: int) -> int:
    """Return the sum of the tiles from ``oldest`` to ``newest``."""
    total = 0
    if newest >= oldest:
        first = oldest % len(ring)
        end = first + newest - oldest + 1
        for place in range(first, min(end, len(ring))):
            total += ring[place]
        for place in range(end - len(ring)):
            total += ring[place]
    return total


@compiled
def _advance(row: NDArray[Any], newest: int, tile: int, ring: NDArray[np.int64]) -> None:
    """Empty the tiles after ``newest`` up to ``tile``, so that the ring reaches there."""
    if newest == NEVER:
        return
    start, capacity = ring[1], ring[2]
    for q in range(max(newest + 1, tile - capacity + 1), tile + 1):
        row[start + q % capacity] = 0


@compiled
def _seconds_since(last_ms: int, time_ms: int) -> float:
    """Return the seconds from the newest event so far, 0 if it is newer; missing if none."""
    if last_ms == NEVER:
        return np.nan
    return max(0, time_ms - last_ms) / 1000.0
