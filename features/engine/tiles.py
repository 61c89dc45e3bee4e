"""The compiled loop over events that reads and updates the tiles of :mod:`features.engine.windows`.

All tiles live in one pool of float64, in blocks: one block per entity and tile length, with places
for some tiles, oldest first. A block of ``room`` places holds the tiles' numbers, then the cells of
each ring over this tile length: ``(1 + rings) · room`` values. (Numbers of tiles are whole and far
below 2⁵³.) A block that is full is changed for one of twice the room, and joins the free blocks of
its kind, which are chained by the first value of each.
"""

import numpy as np
from numpy.typing import NDArray

from streams.compiled import compiled, compiled_count

EVERY_EVENT = -1
COUNT, SUM, MEAN = range(3)

LEVELS = 48
FIRST_ROOM = 4
AHEAD = 32
NO_BLOCK = -1
START, FIRST, SIZE, LEVEL = range(4)  # of a block: where, first place in use, how many, its room


@compiled
def update_tiles(
    begin: int,
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
    blocks: NDArray[np.int64],
    pool: NDArray[np.float64],
    free: NDArray[np.int64],
    top: NDArray[np.int64],
    values: NDArray[np.float64],
) -> int:
    """Write each event's values, shape (n, outputs), then count the event in.

    The tables are those of :class:`features.engine.window_plan.WindowPlan`, the state that of
    :class:`features.engine.windows.WindowState`. Begins at event ``begin`` and returns where it
    stopped: n, or the event before which the pool has to grow.
    """
    tile_of = np.empty(len(tiles), dtype=np.int64)
    is_whole = np.empty(len(tiles), dtype=np.bool_)
    bounds = np.empty((len(spans), 2), dtype=np.int64)
    found = np.empty(len(scans), dtype=np.float64)
    reserve = 0
    for f in range(len(tiles)):
        reserve += tiles[f, 3] * (1 + tiles[f, 4])
    touched = np.empty(AHEAD, dtype=np.float64)
    for i in range(begin, len(slots)):
        if top[0] + reserve > len(pool):
            return i
        if (i - begin) % AHEAD == 0:
            _touch(slots[i : i + AHEAD], blocks, pool, touched)
        slot = slots[i]
        for f in range(len(tiles)):
            tile_of[f] = times_ms[i] // tiles[f, 0]
            is_whole[f] = tile_of[f] >= watermarks_ms[i] // tiles[f, 0] - tiles[f, 1]
        for s in range(len(spans)):
            f = spans[s, 0]
            _find_span(blocks[slot, f], pool, tile_of[f], spans[s, 1], bounds[s])
        for k in range(len(scans)):
            ring, span = scans[k, 0], scans[k, 1]
            f = rings[ring, 0]
            start = (1 + rings[ring, 1]) * _room(blocks[slot, f, LEVEL], tiles[f, 3])
            if rings[ring, 2] == COUNT:
                found[k] = _count_between(pool, start + bounds[span, 0], start + bounds[span, 1])
            else:
                found[k] = _sum_between(pool, start + bounds[span, 0], start + bounds[span, 1])
        for o in range(len(outputs)):
            what, f = outputs[o, 0], outputs[o, 3]
            if not is_whole[f]:
                values[i, o] = np.nan
            elif what == MEAN:
                number = found[outputs[o, 2]]
                values[i, o] = found[outputs[o, 1]] / number if number > 0 else np.nan
            else:
                values[i, o] = found[outputs[o, 1]]
        if not is_late[i]:
            for f in range(len(tiles)):
                block = blocks[slot, f]
                place = _place_for(f, tile_of[f], tiles[f], block, pool, free, top)
                room = _room(block[LEVEL], tiles[f, 3])
                for r in range(len(rings)):
                    if rings[r, 0] == f:
                        column = rings[r, 3]
                        amount = 1.0
                        if column != EVERY_EVENT:
                            amount = numbers[i, column]
                            if np.isnan(amount):
                                amount = 0.0
                            elif rings[r, 2] == COUNT:
                                amount = 1.0
                        pool[place + (1 + rings[r, 1]) * room] += amount
    return len(slots)


@compiled
def _touch(
    slots: NDArray[np.int64],
    blocks: NDArray[np.int64],
    pool: NDArray[np.float64],
    touched: NDArray[np.float64],
) -> None:
    """Read what will be needed, so that the processor fetches it for many events at once."""
    for f in range(blocks.shape[1]):
        for i in range(len(slots)):
            touched[i] = blocks[slots[i], f, START]
        for i in range(len(slots)):
            start = int(touched[i])
            if start != NO_BLOCK:
                touched[i] = pool[start + blocks[slots[i], f, FIRST]]


@compiled
def _room(level: int, most: int) -> int:
    """Return the places of a block; none has more than ``most``."""
    return min(FIRST_ROOM << level, most)


@compiled
def _find_span(
    block: NDArray[np.int64],
    pool: NDArray[np.float64],
    tile: int,
    length: int,
    bounds: NDArray[np.int64],
) -> None:
    """Write where [first, end) of the block's tiles among the ``length`` up to ``tile`` stand."""
    first = block[START] + block[FIRST]
    end = first + block[SIZE]
    if first < end and pool[end - 1] > tile:
        end = _first_from(pool, first, end, tile + 1)
    bounds[0] = _first_from(pool, first, end, tile - length + 1)
    bounds[1] = end


@compiled
def _first_from(pool: NDArray[np.float64], first: int, end: int, tile: int) -> int:
    """Return the first place in [first, end) whose tile is at least ``tile``, else ``end``."""
    if first < end and pool[first] >= tile:
        return first
    while first < end:
        middle = (first + end) >> 1
        if pool[middle] < tile:
            first = middle + 1
        else:
            end = middle
    return first


@compiled
def _sum_between(pool: NDArray[np.float64], first: int, end: int) -> float:
    total = 0.0
    for place in range(first, end):
        total += pool[place]
    return total


@compiled_count
def _count_between(pool: NDArray[np.float64], first: int, end: int) -> float:
    total = 0.0
    for place in range(first, end):
        total += pool[place]
    return total


@compiled
def _place_for(
    family: int,
    tile: int,
    spec: NDArray[np.int64],
    block: NDArray[np.int64],
    pool: NDArray[np.float64],
    free: NDArray[np.int64],
    top: NDArray[np.int64],
) -> int:
    """Return where the number of ``tile`` stands; made, with cells of zero, if it was not there."""
    capacity, most, rings = spec[2], spec[3], spec[4]
    first = block[START] + block[FIRST]
    end = first + block[SIZE]
    if first < end and pool[end - 1] == tile:
        return int(end - 1)
    place = _first_from(pool, first, end, tile)
    if place < end and pool[place] == tile:
        return place
    if place == end:  # the newest so far: forget what no event to come can reach
        while first < end and pool[first] <= tile - capacity:
            first += 1
        block[FIRST], block[SIZE] = first - block[START], end - first
    after = place - first
    if block[START] == NO_BLOCK or block[FIRST] + block[SIZE] == _room(block[LEVEL], most):
        _make_place(family, most, rings, block, pool, free, top)
    start, room = block[START], _room(block[LEVEL], most)
    place, end = start + block[FIRST] + after, start + block[FIRST] + block[SIZE]
    for layer in range(1 + rings):
        shift = layer * room
        for j in range(end, place, -1):
            pool[shift + j] = pool[shift + j - 1]
        pool[shift + place] = 0.0
    pool[place] = tile
    block[SIZE] += 1
    return int(place)


@compiled
def _make_place(
    family: int,
    most: int,
    rings: int,
    block: NDArray[np.int64],
    pool: NDArray[np.float64],
    free: NDArray[np.int64],
    top: NDArray[np.int64],
) -> None:
    """Make a place after the block's last tile: within it, if much has expired, or in a larger."""
    if block[START] == NO_BLOCK:
        block[START] = _take_block(family, 0, _room(0, most) * (1 + rings), pool, free, top)
        block[FIRST], block[SIZE], block[LEVEL] = 0, 0, 0
        return
    old, level = block[START], block[LEVEL]
    room = _room(level, most)
    new, larger = old, room
    if room < most and 4 * block[SIZE] > 3 * room:
        larger = _room(level + 1, most)
        new = _take_block(family, level + 1, larger * (1 + rings), pool, free, top)
        block[START], block[LEVEL] = new, level + 1
    for layer in range(1 + rings):
        for j in range(block[SIZE]):
            pool[new + layer * larger + j] = pool[old + layer * room + block[FIRST] + j]
    block[FIRST] = 0
    if new != old:
        pool[old] = free[family, level]
        free[family, level] = old


@compiled
def _take_block(
    family: int,
    level: int,
    values: int,
    pool: NDArray[np.float64],
    free: NDArray[np.int64],
    top: NDArray[np.int64],
) -> int:
    start = free[family, level]
    if start != NO_BLOCK:
        free[family, level] = int(pool[start])
    else:
        start = top[0]
        top[0] += values
    return int(start)
