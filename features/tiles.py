"""The compiled loop over events that reads and updates the tiles of :mod:`features.windows`."""

import numpy as np
from numpy.typing import NDArray

from features.compiled import compiled, compiled_count

NEVER = np.iinfo(np.int64).min
"""Event time of an entity that has had none."""
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
    rings: NDArray[np.int64],
    spans: NDArray[np.int64],
    scans: NDArray[np.int64],
    outputs: NDArray[np.int64],
    last_ms: NDArray[np.int64],
    held: NDArray[np.int64],
    tile_ids: NDArray[np.int64],
    cells: NDArray[np.float64],
    values: NDArray[np.float64],
) -> None:
    """Write each event's values, shape (n, outputs), then count the event in.

    The tables are those of :class:`features.windows.WindowPlan`, the state that of
    :class:`features.windows.WindowState`.
    """
    tile_of = np.empty(len(tiles), dtype=np.int64)
    is_whole = np.empty(len(tiles), dtype=np.bool_)
    place_of = np.empty(len(tiles), dtype=np.int64)
    bounds = np.empty((len(spans), 2), dtype=np.int64)
    found = np.empty(len(scans), dtype=np.float64)
    for i in range(len(slots)):
        slot = slots[i]
        for f in range(len(tiles)):
            tile_of[f] = times_ms[i] // tiles[f, 0]
            is_whole[f] = tile_of[f] >= watermarks_ms[i] // tiles[f, 0] - tiles[f, 1]
        for s in range(len(spans)):
            f = spans[s, 0]
            _find_span(
                held[slot, f], tile_ids[slot], tiles[f, 3], tile_of[f], spans[s, 1], bounds[s]
            )
        for k in range(len(scans)):
            start = rings[scans[k, 0], 1]
            first, end = start + bounds[scans[k, 1], 0], start + bounds[scans[k, 1], 1]
            if rings[scans[k, 0], 2] == COUNT:
                found[k] = _count_between(cells[slot], first, end)
            else:
                found[k] = _sum_between(cells[slot], first, end)
        for o in range(len(outputs)):
            what, f = outputs[o, 0], outputs[o, 3]
            if what == SINCE_LAST:
                values[i, o] = _seconds_since(last_ms[slot], times_ms[i])
            elif not is_whole[f]:
                values[i, o] = np.nan
            elif what == MEAN:
                number = found[outputs[o, 2]]
                values[i, o] = found[outputs[o, 1]] / number if number > 0 else np.nan
            else:
                values[i, o] = found[outputs[o, 1]]
        last_ms[slot] = max(last_ms[slot], times_ms[i])
        if not is_late[i]:
            for f in range(len(tiles)):
                place_of[f] = _open_tile(
                    f, tile_of[f], tiles[f], rings, held[slot, f], tile_ids[slot], cells[slot]
                )
            for r in range(len(rings)):
                column = rings[r, 3]
                place = rings[r, 1] + place_of[rings[r, 0]]
                if column == EVERY_EVENT:
                    cells[slot, place] += 1.0
                elif not np.isnan(numbers[i, column]):
                    cells[slot, place] += 1.0 if rings[r, 2] == COUNT else numbers[i, column]


@compiled
def _find_span(
    held: NDArray[np.int64],
    tile_ids: NDArray[np.int64],
    start: int,
    tile: int,
    length: int,
    bounds: NDArray[np.int64],
) -> None:
    """Write the places [first, end) of the held tiles among the ``length`` up to ``tile``."""
    first, end = start + held[0], start + held[0] + held[1]
    bounds[1] = end - start
    if first == end or tile_ids[end - 1] > tile:
        bounds[1] = _first_from(tile_ids, first, end, tile + 1) - start
    bounds[0] = _first_from(tile_ids, first, start + bounds[1], tile - length + 1) - start


@compiled
def _first_from(tile_ids: NDArray[np.int64], first: int, end: int, tile: int) -> int:
    """Return the first place in [first, end) whose tile is at least ``tile``, else ``end``."""
    if first < end and tile_ids[first] >= tile:
        return first
    while first < end:
        middle = (first + end) >> 1
        if tile_ids[middle] < tile:
            first = middle + 1
        else:
            end = middle
    return first


@compiled
def _sum_between(row: NDArray[np.float64], first: int, end: int) -> float:
    total = 0.0
    for place in range(first, end):
        total += row[place]
    return total


@compiled_count
def _count_between(row: NDArray[np.float64], first: int, end: int) -> float:
    total = 0.0
    for place in range(first, end):
        total += row[place]
    return total


@compiled
def _open_tile(
    family: int,
    tile: int,
    spec: NDArray[np.int64],
    rings: NDArray[np.int64],
    held: NDArray[np.int64],
    tile_ids: NDArray[np.int64],
    cells: NDArray[np.float64],
) -> int:
    """Return the place of ``tile``, made and set to zero where it was not held yet."""
    capacity, start, room = int(spec[2]), int(spec[3]), int(spec[4])
    if held[1] > 0 and tile_ids[start + held[0] + held[1] - 1] == tile:
        return int(held[0] + held[1] - 1)
    at = _first_from(tile_ids, start + held[0], start + held[0] + held[1], tile) - start
    end = held[0] + held[1]
    if at < end and tile_ids[start + at] == tile:
        return at
    if at == end:  # the newest so far: forget what no event to come can reach
        while held[1] > 0 and tile_ids[start + held[0]] <= tile - capacity:
            held[0] += 1
            held[1] -= 1
    if end == room:  # no place after the last one: move all to the front
        for j in range(held[1]):
            tile_ids[start + j] = tile_ids[start + held[0] + j]
        for r in range(len(rings)):
            if rings[r, 0] == family:
                for j in range(held[1]):
                    cells[rings[r, 1] + j] = cells[rings[r, 1] + held[0] + j]
        at -= held[0]
        held[0] = 0
        end = held[1]
    for j in range(end, at, -1):
        tile_ids[start + j] = tile_ids[start + j - 1]
    tile_ids[start + at] = tile
    for r in range(len(rings)):
        if rings[r, 0] == family:
            for j in range(end, at, -1):
                cells[rings[r, 1] + j] = cells[rings[r, 1] + j - 1]
            cells[rings[r, 1] + at] = 0.0
    held[1] += 1
    return at


@compiled
def _seconds_since(last_ms: int, time_ms: int) -> float:
    """Return the seconds from the newest event so far, 0 if it is newer; missing if none."""
    if last_ms == NEVER:
        return np.nan
    return max(0, time_ms - last_ms) / 1000.0
