"""Texts numbered from 0 on in the order of first appearance, looked up in compiled code.

For ids by the million: a table of 64-bit hashes beside the texts themselves, which are compared to
the last byte, so that texts of one hash stay apart.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streams.compiled import compiled

NONE = -1
_FIRST_ROWS = 1024


class Ids:
    """Numbers texts.

    The table is open addressing with linear probing: rows (hash, number), a power of two of them,
    at most half of them used; text i stands in ``text`` within [ends[i], ends[i + 1]).
    """

    def __init__(self) -> None:
        self._table = np.full((_FIRST_ROWS, 2), NONE, np.int64)
        self._ends = np.zeros(_FIRST_ROWS, np.int64)
        self._text = np.zeros(_FIRST_ROWS, np.uint8)
        self._count = 0

    def __len__(self) -> int:
        """Return how many texts have a number."""
        return self._count

    def add(self, texts: pa.Array) -> NDArray[np.int64]:
        """Return the number of each of n texts, (n,); a new text gets the next."""
        letters, bounds = _bytes_of(texts)
        self._make_room(len(texts), int(bounds[-1] - bounds[0]))
        numbers = np.empty(len(texts), np.int64)
        self._count = _add_all(
            letters, bounds, self._table, self._ends, self._text, self._count, numbers
        )
        return numbers

    def find(self, texts: pa.Array) -> NDArray[np.int64]:
        """Return the number of each of n texts, (n,), −1 of one that has none."""
        letters, bounds = _bytes_of(texts)
        numbers = np.empty(len(texts), np.int64)
        _find_all(letters, bounds, self._table, self._ends, self._text, numbers)
        return numbers

    def _make_room(self, texts: int, letters: int) -> None:
        used = int(self._ends[self._count])
        if used + letters > len(self._text):
            text = np.zeros(max(used + letters, 2 * len(self._text)), np.uint8)
            text[:used] = self._text[:used]
            self._text = text
        if 2 * (self._count + texts + 1) > len(self._table):
            rows = len(self._table)
            while rows < 2 * (self._count + texts + 1):
                rows *= 2
            table, ends = np.full((rows, 2), NONE, np.int64), np.zeros(rows, np.int64)
            _move(self._table, table)
            ends[: self._count + 1] = self._ends[: self._count + 1]
            self._table, self._ends = table, ends


def _bytes_of(texts: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the UTF-8 of the texts and the bounds of each, (n + 1,)."""
    if not len(texts):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    _, bounds, letters = texts.buffers()
    found = np.frombuffer(bounds, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    data = np.zeros(0, np.uint8) if letters is None else np.frombuffer(letters, np.uint8)
    return data, found.astype(np.int64)


@compiled
def _hash(letters: NDArray[np.uint8], begin: int, end: int) -> int:
    """FNV-1a over the bytes, then the finaliser of MurmurHash3 to spread what FNV leaves close."""
    h = np.uint64(0xCBF29CE484222325)
    for j in range(begin, end):
        h = (h ^ np.uint64(letters[j])) * np.uint64(0x100000001B3)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return np.int64(h ^ (h >> np.uint64(33)))  # type: ignore[return-value]


@compiled
def _row_of(
    letters: NDArray[np.uint8],
    begin: int,
    end: int,
    key: int,
    table: NDArray[np.int64],
    ends: NDArray[np.int64],
    text: NDArray[np.uint8],
) -> int:
    """Return the row of the table that holds a text, else the empty row where it belongs."""
    mask = len(table) - 1
    row = key & mask
    while table[row, 1] != NONE:
        if table[row, 0] == key:
            number = table[row, 1]
            start = ends[number]
            same = ends[number + 1] - start == end - begin
            j = begin
            while same and j < end:
                same = letters[j] == text[start + j - begin]
                j += 1
            if same:
                return row
        row = (row + 1) & mask
    return row


@compiled
def _find_all(
    letters: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    table: NDArray[np.int64],
    ends: NDArray[np.int64],
    text: NDArray[np.uint8],
    numbers: NDArray[np.int64],
) -> None:
    for i in range(len(numbers)):
        key = _hash(letters, bounds[i], bounds[i + 1])
        row = _row_of(letters, bounds[i], bounds[i + 1], key, table, ends, text)
        numbers[i] = table[row, 1]


@compiled
def _add_all(
    letters: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    table: NDArray[np.int64],
    ends: NDArray[np.int64],
    text: NDArray[np.uint8],
    count: int,
    numbers: NDArray[np.int64],
) -> int:
    for i in range(len(numbers)):
        key = _hash(letters, bounds[i], bounds[i + 1])
        row = _row_of(letters, bounds[i], bounds[i + 1], key, table, ends, text)
        if table[row, 1] == NONE:
            table[row, 0] = key
            table[row, 1] = count
            end = ends[count]
            for j in range(bounds[i], bounds[i + 1]):
                text[end] = letters[j]
                end += 1
            ends[count + 1] = end
            count += 1
        numbers[i] = table[row, 1]
    return count


@compiled
def _move(old: NDArray[np.int64], new: NDArray[np.int64]) -> None:
    mask = len(new) - 1
    for i in range(len(old)):
        if old[i, 1] != NONE:
            row = old[i, 0] & mask
            while new[row, 1] != NONE:
                row = (row + 1) & mask
            new[row, 0] = old[i, 0]
            new[row, 1] = old[i, 1]
