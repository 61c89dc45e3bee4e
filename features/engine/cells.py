"""The compiled loop over windows that keep more than a sum per tile, or lag behind the event.

All records live in one pool of 64-bit words, in blocks: one block per entity and family (the
rings over one tile length), with places for some records, oldest tile first. A record is the
number of its tile and the words of each ring:

- COUNT, SUM: the number. MIN, MAX: the value, ±∞ for none.
- FIRST, LAST: event time, value; NaN for none.
- VARIANCE: n, mean, sum of squared deviations.
- DISTINCT: 2^size registers, a byte each (HyperLogLog).
- QUANTILE: ``size`` buckets, 32 bits each (DDSketch).
- TOP: the total, then ``size`` pairs of hash and count (Misra-Gries).

A block that is full is changed for one of twice the room, and joins the free blocks of its kind,
which are chained by the first word of each. What is read is merged from the oldest tile to the
newest.
"""

import numpy as np
from numpy.typing import NDArray

from streams.compiled import compiled

EVERY_RECORD = -1
NO_DELAY = -1
NO_BLOCK = -1
NO_TEXT = 0
START, FIRST, SIZE, LEVEL = range(4)  # of a block: where, first place in use, how many, its room
COUNT, SUM, MEAN, VARIANCE, MIN, MAX, OLDEST, NEWEST, DISTINCT, QUANTILE, TOP = range(11)


@compiled
def update_cells(
    progress: NDArray[np.int64],
    feed_before: NDArray[np.int64],
    feed_slots: NDArray[np.int64],
    feed_times_ms: NDArray[np.int64],
    feed_marks_ms: NDArray[np.int64],
    feed_numbers: NDArray[np.float64],
    feed_hashes: NDArray[np.int64],
    slots: NDArray[np.int64],
    times_ms: NDArray[np.int64],
    marks_ms: NDArray[np.int64],
    families: NDArray[np.int64],
    rings: NDArray[np.int64],
    reads: NDArray[np.int64],
    quantiles: NDArray[np.float64],
    bounds: NDArray[np.float64],
    centres: NDArray[np.float64],
    blocks: NDArray[np.int64],
    pool: NDArray[np.float64],
    free: NDArray[np.int64],
    top: NDArray[np.int64],
    values: NDArray[np.float64],
) -> bool:
    """Take feeds and reads in their order; feed j comes before read ``feed_before[j]``.

    Writes the values of each read, shape (n, reads). ``marks_ms`` are the watermarks when a feed
    or read is taken. The tables are those of :class:`features.engine.cell_plan.CellPlan`, the
    state that of :class:`features.engine.cell_state.CellState`. Goes on where ``progress`` (next
    feed, next read) says; returns False where the pool has to grow before it can.
    """
    words = pool.view(np.int64)
    widest = 1
    for f in range(len(families)):
        widest = max(widest, families[f, 5])
    scratch = np.empty(2 * widest, dtype=np.float64)
    keys = np.empty(2 * widest, dtype=np.int64)
    j, i = progress[0], progress[1]
    while True:
        while j < len(feed_slots) and feed_before[j] <= i:
            if not _has_room(blocks[feed_slots[j]], families, top[0], len(pool)):
                progress[0], progress[1] = j, i
                return False
            for f in range(len(families)):
                tile = feed_times_ms[j] // families[f, 0]
                oldest = feed_marks_ms[j] // families[f, 0] - families[f, 2] + 1
                if tile < oldest:
                    continue  # no event to come can read it
                block = blocks[feed_slots[j], f]
                place = _record_of(
                    f, tile, oldest, families[f], rings, block, pool, words, free, top
                )
                for r in range(len(rings)):
                    if rings[r, 0] != f:
                        continue
                    at, column = place + rings[r, 1], rings[r, 3]
                    if rings[r, 2] == DISTINCT:
                        _add_distinct(pool, at, rings[r, 4], feed_hashes[j, column])
                    elif rings[r, 2] == TOP:
                        _add_top(pool, words, at, rings[r, 4], feed_hashes[j, column])
                    else:
                        number = 1.0 if column == EVERY_RECORD else feed_numbers[j, column]
                        if not np.isnan(number):
                            _add_number(pool, at, rings[r], number, feed_times_ms[j], bounds[r])
            j += 1
        if i == len(slots):
            progress[0], progress[1] = j, i
            return True
        for k in range(len(reads)):
            ring, length, delay_ms = reads[k, 1], reads[k, 3], reads[k, 4]
            f = rings[ring, 0]
            u, stride = families[f, 0], families[f, 5]
            tile = times_ms[i] // u
            if tile < marks_ms[i] // u - families[f, 1]:
                values[i, k] = np.nan
                continue
            end = tile + 1 if delay_ms == NO_DELAY else (times_ms[i] - delay_ms) // u
            block = blocks[slots[i], f]
            start = block[START] + block[FIRST] * stride
            a = _first_from(pool, start, stride, block[SIZE], end - length)
            b = _first_from(pool, start, stride, block[SIZE], end)
            first, last = start + a * stride + rings[ring, 1], start + b * stride + rings[ring, 1]
            what = reads[k, 0]
            if what == DISTINCT:
                made = _distinct(pool, first, last, stride, rings[ring, 4], scratch)
            elif what == QUANTILE:
                made = _quantile(
                    pool, first, last, stride, rings[ring, 4], quantiles[k], centres[ring], scratch
                )
            elif what == TOP:
                made = _top_share(pool, words, first, last, stride, rings[ring, 4], keys, scratch)
            elif what == MEAN:
                counts = rings[reads[k, 2], 1] - rings[ring, 1]
                made = _sum(pool, first, last, stride)
                number = _sum(pool, first + counts, last + counts, stride)
                made = made / number if number > 0 else np.nan
            else:
                made = _merged(pool, first, last, stride, what)
            values[i, k] = made
        i += 1


@compiled
def _has_room(blocks: NDArray[np.int64], families: NDArray[np.int64], top: int, words: int) -> bool:
    """Return whether the pool has room for whatever one more record asks for."""
    for f in range(len(families)):
        level = blocks[f, LEVEL] + 1 if blocks[f, START] != NO_BLOCK else 0
        top += _room(level, families[f]) * families[f, 5]
    return top <= words


@compiled
def _room(level: int, family: NDArray[np.int64]) -> int:
    """Return the places of a block."""
    return int(min(family[4] << level, family[3]))


@compiled
def _first_from(pool: NDArray[np.float64], start: int, stride: int, size: int, tile: int) -> int:
    """Return the first of a block's records whose tile is at least ``tile``, else their number."""
    first, end = 0, size
    if size and pool[start] >= tile:
        return 0
    if size and pool[start + (size - 1) * stride] < tile:
        return size
    while first < end:
        middle = (first + end) >> 1
        if pool[start + middle * stride] < tile:
            first = middle + 1
        else:
            end = middle
    return first


@compiled
def _record_of(
    f: int,
    tile: int,
    oldest: int,
    family: NDArray[np.int64],
    rings: NDArray[np.int64],
    block: NDArray[np.int64],
    pool: NDArray[np.float64],
    words: NDArray[np.int64],
    free: NDArray[np.int64],
    top: NDArray[np.int64],
) -> int:
    """Return where the record of ``tile`` stands; made empty if it was not there.

    Tiles before ``oldest`` are forgotten when one is made.
    """
    stride = family[5]
    start = block[START] + block[FIRST] * stride
    if block[SIZE] and pool[start + (block[SIZE] - 1) * stride] == tile:
        return int(start + (block[SIZE] - 1) * stride)
    after = _first_from(pool, start, stride, block[SIZE], tile)
    if after < block[SIZE] and pool[start + after * stride] == tile:
        return int(start + after * stride)
    while block[SIZE] and pool[block[START] + block[FIRST] * stride] < oldest:
        block[FIRST] += 1
        block[SIZE] -= 1
        after -= 1
    if block[START] == NO_BLOCK or block[FIRST] + block[SIZE] == _room(block[LEVEL], family):
        _make_place(f, family, block, pool, free, top)
    start = block[START] + block[FIRST] * stride
    place, end = start + after * stride, start + block[SIZE] * stride
    for w in range(end - 1, place - 1, -1):
        words[w + stride] = words[w]  # as bits: registers need not be numbers
    for w in range(place, place + stride):
        words[w] = 0
    pool[place] = tile
    for r in range(len(rings)):
        if rings[r, 0] == f:
            what, at = rings[r, 2], place + rings[r, 1]
            if what == MIN:
                pool[at] = np.inf
            elif what == MAX:
                pool[at] = -np.inf
            elif what in (OLDEST, NEWEST):
                pool[at + 1] = np.nan
    block[SIZE] += 1
    return int(place)


@compiled
def _make_place(
    f: int,
    family: NDArray[np.int64],
    block: NDArray[np.int64],
    pool: NDArray[np.float64],
    free: NDArray[np.int64],
    top: NDArray[np.int64],
) -> None:
    """Make a place after the block's last record: within it, if much has gone, or in a larger."""
    stride = family[5]
    words = pool.view(np.int64)
    if block[START] == NO_BLOCK:
        block[START] = _take_block(f, 0, _room(0, family) * stride, words, free, top)
        block[FIRST], block[SIZE], block[LEVEL] = 0, 0, 0
        return
    old, level = block[START], block[LEVEL]
    room, new = _room(level, family), old
    if room < family[3] and 4 * block[SIZE] > 3 * room:
        new = _take_block(f, level + 1, _room(level + 1, family) * stride, words, free, top)
        block[START], block[LEVEL] = new, level + 1
    shift = old + block[FIRST] * stride
    for w in range(block[SIZE] * stride):
        words[new + w] = words[shift + w]
    block[FIRST] = 0
    if new != old:
        words[old] = free[f, level]
        free[f, level] = old


@compiled
def _take_block(
    f: int,
    level: int,
    size: int,
    words: NDArray[np.int64],
    free: NDArray[np.int64],
    top: NDArray[np.int64],
) -> int:
    start = free[f, level]
    if start != NO_BLOCK:
        free[f, level] = words[start]
    else:
        start = top[0]
        top[0] += size
    return int(start)


@compiled
def _add_number(
    pool: NDArray[np.float64],
    at: int,
    ring: NDArray[np.int64],
    number: float,
    time_ms: int,
    bounds: NDArray[np.float64],
) -> None:
    what = ring[2]
    if what == COUNT:
        pool[at] += 1.0
    elif what == SUM:
        pool[at] += number
    elif what == MIN:
        pool[at] = min(pool[at], number)
    elif what == MAX:
        pool[at] = max(pool[at], number)
    elif what == OLDEST:
        if np.isnan(pool[at + 1]) or time_ms < pool[at]:
            pool[at], pool[at + 1] = time_ms, number
    elif what == NEWEST:
        if np.isnan(pool[at + 1]) or time_ms >= pool[at]:
            pool[at], pool[at + 1] = time_ms, number
    elif what == VARIANCE:
        pool[at] += 1.0
        off = number - pool[at + 1]
        pool[at + 1] += off / pool[at]
        pool[at + 2] += off * (number - pool[at + 1])
    elif what == QUANTILE:
        bucket = np.searchsorted(bounds[: ring[4] - 1], number)
        pool.view(np.uint32)[2 * at + bucket] += np.uint32(1)


@compiled
def _sum(pool: NDArray[np.float64], first: int, last: int, stride: int) -> float:
    total = 0.0
    for at in range(first, last, stride):
        total += pool[at]
    return total


@compiled
def _merged(pool: NDArray[np.float64], first: int, last: int, stride: int, what: int) -> float:
    """Return what a window's records come to: COUNT to NEWEST, but MEAN."""
    if what <= SUM:
        return _sum(pool, first, last, stride)
    if what == VARIANCE:
        return _variance(pool, first, last, stride)
    made = np.nan
    for at in range(first, last, stride):
        if what == MIN:
            if pool[at] < np.inf:
                made = pool[at] if np.isnan(made) else min(made, pool[at])
        elif what == MAX:
            if pool[at] > -np.inf:
                made = pool[at] if np.isnan(made) else max(made, pool[at])
        elif not np.isnan(pool[at + 1]):
            made = pool[at + 1]
            if what == OLDEST:
                break
    return made


@compiled
def _variance(pool: NDArray[np.float64], first: int, last: int, stride: int) -> float:
    n, mean, squares = 0.0, 0.0, 0.0
    for at in range(first, last, stride):
        more = pool[at]
        if more > 0:
            both = n + more
            off = pool[at + 1] - mean
            mean += off * more / both
            squares += pool[at + 2] + off * off * n * more / both
            n = both
    return squares / (n - 1.0) if n >= 2 else np.nan


@compiled
def _add_distinct(pool: NDArray[np.float64], at: int, precision: int, text: int) -> None:
    if text == NO_TEXT:
        return
    h = np.uint64(text)
    register = np.int64(h >> np.uint64(64 - precision))
    rest, rank = h << np.uint64(precision), 1
    while rank <= 64 - precision and not (rest >> np.uint64(63)):
        rest, rank = rest << np.uint64(1), rank + 1
    registers = pool.view(np.uint8)
    registers[8 * at + register] = max(registers[8 * at + register], np.uint8(rank))


@compiled
def _distinct(
    pool: NDArray[np.float64],
    first: int,
    last: int,
    stride: int,
    precision: int,
    scratch: NDArray[np.float64],
) -> float:
    """Return about how many different texts were added, as a whole number."""
    m = 1 << precision
    registers, merged = pool.view(np.uint8), scratch.view(np.uint8)
    merged[:m] = 0
    for at in range(first, last, stride):
        for x in range(m):
            merged[x] = max(merged[x], registers[8 * at + x])
    empty, total = 0, 0.0
    for x in range(m):
        empty += merged[x] == 0
        total += 1.0 / (np.int64(1) << np.int64(merged[x]))
    alpha = 0.673 if m == 16 else 0.697 if m == 32 else 0.709 if m == 64 else 0.0
    if m > 64:
        alpha = 0.7213 / (1.0 + 1.079 / m)
    about = alpha * m * m / total
    if about <= 2.5 * m and empty:
        about = m * np.log(m / empty)
    return float(np.floor(about + 0.5))


@compiled
def _quantile(
    pool: NDArray[np.float64],
    first: int,
    last: int,
    stride: int,
    buckets: int,
    q: float,
    centres: NDArray[np.float64],
    scratch: NDArray[np.float64],
) -> float:
    counts = pool.view(np.uint32)
    scratch[:buckets] = 0.0
    n = 0.0
    for at in range(first, last, stride):
        for x in range(buckets):
            scratch[x] += counts[2 * at + x]
    for x in range(buckets):
        n += scratch[x]
    below = 0.0
    for x in range(buckets):
        below += scratch[x]
        if n > 0 and below > q * (n - 1.0):
            return float(centres[x])
    return np.nan


@compiled
def _add_top(
    pool: NDArray[np.float64], words: NDArray[np.int64], at: int, size: int, text: int
) -> None:
    if text == NO_TEXT:
        return
    pool[at] += 1.0
    empty = -1
    for pair in range(at + 1, at + 1 + 2 * size, 2):
        if pool[pair + 1] > 0:
            if words[pair] == text:
                pool[pair + 1] += 1.0
                return
        elif empty < 0:
            empty = pair
    if empty >= 0:
        words[empty], pool[empty + 1] = text, 1.0
        return
    for pair in range(at + 1, at + 1 + 2 * size, 2):
        pool[pair + 1] -= 1.0


@compiled
def _top_share(
    pool: NDArray[np.float64],
    words: NDArray[np.int64],
    first: int,
    last: int,
    stride: int,
    size: int,
    keys: NDArray[np.int64],
    counts: NDArray[np.float64],
) -> float:
    total, used = 0.0, 0
    for at in range(first, last, stride):
        total += pool[at]
        for pair in range(at + 1, at + 1 + 2 * size, 2):
            if pool[pair + 1] > 0:
                x = 0
                while x < used and keys[x] != words[pair]:
                    x += 1
                if x == used:
                    keys[x], counts[x] = words[pair], 0.0
                    used += 1
                counts[x] += pool[pair + 1]
        if used > size:  # subtract what the first beyond ``size`` has; at most ``size`` are left
            less = np.sort(counts[:used])[used - size - 1]
            kept = 0
            for x in range(used):
                if counts[x] > less:
                    keys[kept], counts[kept] = keys[x], counts[x] - less
                    kept += 1
            used = kept
    if total == 0:
        return np.nan
    most = 0.0
    for x in range(used):
        most = max(most, counts[x])
    return most / total
