"""Which events count: each id once, and the watermark that tells how late an event is.

Time is cut into generations of ``dedupe_ms``; an id is remembered from the event that brought it
until the watermark has left the generation after the one it was in then. So it is remembered for
at least ``dedupe_ms`` of event time and at most twice as long, and a repetition meanwhile is a
duplicate, whatever its event time says. A duplicate changes nothing, not even the watermark.

Ids are remembered as 64-bit hashes. Among n ids some two share one with probability n²/2⁶⁵: three
in a million for ten million ids.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streams.compiled import compiled

NOTHING_SEEN = np.iinfo(np.int64).min
"""The watermark before the first event."""

_EMPTY = np.iinfo(np.int64).min
_SMALLEST_TABLE = 1024
_AHEAD = 64


class SeenIds:
    """The ids seen of late and the watermark of one partition.

    The table is open addressing with linear probing: rows (hash, generation), a power of two of
    them, at most two thirds of them used.
    """

    def __init__(self, dedupe_ms: int) -> None:
        self._dedupe_ms = dedupe_ms
        self._table = _empty_table(_SMALLEST_TABLE)
        # watermark in ms, used rows of the table
        self._state = np.array([NOTHING_SEEN, 0], dtype=np.int64)

    @property
    def watermark_ms(self) -> int | None:
        """The newest event time so far, milliseconds since the epoch; None before any event."""
        watermark = int(self._state[0])
        return None if watermark == NOTHING_SEEN else watermark

    def admit(
        self, event_ids: Sequence[str], event_times_ms: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Take events in log order.

        Returns:
            Whether each is new, shape (n,), and the watermark once it was taken, shape (n,).
        """
        self._make_room(len(event_ids))
        return _admit(hashes(event_ids), event_times_ms, self._dedupe_ms, self._state, self._table)

    def snapshot(self) -> dict[str, NDArray[np.int64]]:
        """Return the state as plain arrays that depend on the log alone."""
        rows = self._remembered()
        rows = rows[np.lexsort((rows[:, 0], rows[:, 1]))]
        return {"watermark_ms": self._state[:1].copy(), "seen_ids": rows}

    def restore(self, watermark_ms: NDArray[np.int64], seen_ids: NDArray[np.int64]) -> None:
        """Put back what :meth:`snapshot` returned; raises ValueError where shapes don't fit."""
        if watermark_ms.shape != (1,) or seen_ids.ndim != 2 or seen_ids.shape[1] != 2:
            raise ValueError(
                f"watermark {watermark_ms.shape} and ids {seen_ids.shape} should be (1,) and (n, 2)"
            )
        self._state[0] = watermark_ms[0]
        self._fill(np.array(seen_ids, dtype=np.int64, order="C"), 0)

    def _make_room(self, n: int) -> None:
        if 3 * (int(self._state[1]) + n) > 2 * len(self._table):
            self._fill(self._remembered(), n)

    def _remembered(self) -> NDArray[np.int64]:
        generations = self._table[:, 1]
        oldest = int(self._state[0]) // self._dedupe_ms - 1
        rows: NDArray[np.int64] = self._table[(generations != _EMPTY) & (generations >= oldest)]
        return rows

    def _fill(self, rows: NDArray[np.int64], room: int) -> None:
        size = _SMALLEST_TABLE
        while size < 2 * (len(rows) + room):
            size *= 2
        self._table = _empty_table(size)
        _insert_all(rows, self._table)
        self._state[1] = len(rows)


def hashes(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return a 64-bit hash of each text, shape (n,); the same in every process and machine."""
    letters, bounds = bytes_of(texts)
    return _hash_all(letters, bounds)


def bytes_of(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the texts in UTF-8, one after the other, and the bounds of each, shape (n + 1,)."""
    joined = "".join(texts)
    pieces: Sequence[str | bytes] = texts
    if joined.isascii():
        letters = joined.encode()
    else:
        encoded = list(map(str.encode, texts))
        letters, pieces = b"".join(encoded), encoded
    bounds = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, pieces), np.int64, len(texts)), out=bounds[1:])
    return np.frombuffer(letters, dtype=np.uint8), bounds


def _empty_table(size: int) -> NDArray[np.int64]:
    table = np.zeros((size, 2), dtype=np.int64)
    table[:, 1] = _EMPTY
    return table


@compiled
def _hash_all(letters: NDArray[np.uint8], bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """FNV-1a over the bytes, then the finaliser of MurmurHash3 to spread what FNV leaves close."""
    result = np.empty(len(bounds) - 1, dtype=np.int64)
    for i in range(len(result)):
        h = np.uint64(0xCBF29CE484222325)
        for j in range(bounds[i], bounds[i + 1]):
            h = (h ^ np.uint64(letters[j])) * np.uint64(0x100000001B3)
        h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
        result[i] = np.int64(h ^ (h >> np.uint64(33)))
    return result


@compiled
def _find(table: NDArray[np.int64], key: int) -> int:
    """Return the row that holds ``key``, else the empty row where it belongs."""
    mask = len(table) - 1
    row = key & mask
    while table[row, 1] != _EMPTY and table[row, 0] != key:
        row = (row + 1) & mask
    return row


@compiled
def _insert_all(rows: NDArray[np.int64], table: NDArray[np.int64]) -> None:
    for i in range(len(rows)):
        row = _find(table, rows[i, 0])
        table[row, 0] = rows[i, 0]
        table[row, 1] = rows[i, 1]


@compiled
def _admit(
    keys: NDArray[np.int64],
    times_ms: NDArray[np.int64],
    dedupe_ms: int,
    state: NDArray[np.int64],
    table: NDArray[np.int64],
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    n = len(keys)
    is_new = np.ones(n, dtype=np.bool_)
    watermarks = np.empty(n, dtype=np.int64)
    for i in range(n):
        if i % _AHEAD == 0:  # let the processor fetch what is needed next, all at once
            for j in range(i, min(i + _AHEAD, n)):
                watermarks[j] = table[keys[j] & (len(table) - 1), 1]
        row = _find(table, keys[i])
        held = table[row, 1]
        if held != _EMPTY and held >= state[0] // dedupe_ms - 1:
            is_new[i] = False
        else:
            state[0] = max(state[0], times_ms[i])
            if held == _EMPTY:
                state[1] += 1
            table[row, 0] = keys[i]
            table[row, 1] = state[0] // dedupe_ms
        watermarks[i] = state[0]
    return is_new, watermarks
