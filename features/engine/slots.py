"""Entities and their slots: numbers from 0 on, without gaps, in the order of first appearance."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.engine.blocks import stretches
from features.engine.identities import bytes_of
from streams.compiled import compiled

_FREE = -1
_FIRST_ROWS = 1024
_FIRST_TEXT = 4096
_AHEAD = 64


class EntitySlots:
    """Looks up the slots of entities by their names.

    The table is open addressing with linear probing: rows (hash, slot), a power of two of them, at
    most half of them used. ``text`` holds the names, that of slot s in [ends[s], ends[s + 1]);
    each is compared to the last byte, so that entities of one hash stay apart.
    """

    def __init__(self) -> None:
        self._table = np.full((_FIRST_ROWS, 2), _FREE, dtype=np.int64)
        self._ends = np.zeros(_FIRST_ROWS // 2 + 1, dtype=np.int64)
        self._text = np.zeros(_FIRST_TEXT, dtype=np.uint8)
        self._used = np.zeros(1, dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of entities."""
        return int(self._used[0])

    @property
    def nbytes(self) -> int:
        """How much memory the state takes, in bytes."""
        return self._table.nbytes + self._ends.nbytes + self._text.nbytes

    def of(self, entities: Sequence[str]) -> NDArray[np.int64]:
        """Return each entity's slot, shape (n,); new entities get the next ones in their order."""
        letters, bounds = bytes_of(entities)
        slots = np.empty(len(entities), dtype=np.int64)
        done = 0
        while True:
            done = _look_up(
                done, letters, bounds, self._table, self._ends, self._text, self._used, slots
            )
            if done == len(entities):
                return slots
            self._grow(int(bounds[done + 1] - bounds[done]))

    def snapshot(self, slots: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return the names of some slots, ascending, as plain arrays."""
        starts = self._ends[slots]
        sizes = self._ends[slots + 1] - starts
        return {
            "entity_ends": np.cumsum(sizes, dtype=np.int64),
            "entity_bytes": self._text[stretches(starts, sizes)],
        }

    @classmethod
    def restore(cls, entity_ends: NDArray[Any], entity_bytes: NDArray[Any]) -> "EntitySlots":
        """Return what :meth:`snapshot` returned; raises ValueError where it is damaged."""
        bounds = np.append(0, entity_ends).astype(np.int64)
        if (np.diff(bounds) < 0).any() or bounds[-1] != len(entity_bytes):
            raise ValueError("the names of the entities do not match their ends")
        made = cls()
        n = len(entity_ends)
        made._resize(n, len(entity_bytes))
        text = np.frombuffer(entity_bytes.astype(np.uint8).tobytes(), dtype=np.uint8)
        slots = np.empty(n, dtype=np.int64)
        _look_up(0, text, bounds, made._table, made._ends, made._text, made._used, slots)
        if len(made) != n:
            raise ValueError("an entity is named twice")
        return made

    def _grow(self, letters: int) -> None:
        n, used = len(self), int(self._ends[len(self)])
        ends, text = self._ends, self._text
        if used + letters > len(text):
            self._text = np.zeros(used + letters + len(text) // 2, dtype=np.uint8)
            self._text[:used] = text[:used]
        if 2 * (n + 1) > len(self._table):
            self._ends = np.zeros(len(self._table) + 1, dtype=np.int64)
            self._ends[: n + 1] = ends[: n + 1]
            larger = np.full((2 * len(self._table), 2), _FREE, dtype=np.int64)
            _move(self._table, larger)
            self._table = larger

    def _resize(self, slots: int, letters: int) -> None:
        rows = _FIRST_ROWS
        while rows < 2 * (slots + 1):
            rows *= 2
        self._table = np.full((rows, 2), _FREE, dtype=np.int64)
        self._ends = np.zeros(rows // 2 + 1, dtype=np.int64)
        self._text = np.zeros(max(_FIRST_TEXT, letters), dtype=np.uint8)


@compiled
def _look_up(
    begin: int,
    letters: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    table: NDArray[np.int64],
    ends: NDArray[np.int64],
    text: NDArray[np.uint8],
    used: NDArray[np.int64],
    slots: NDArray[np.int64],
) -> int:
    """Write the slots; return where it stopped: n, or the entity for which there is no room."""
    mask = len(table) - 1
    keys = np.empty(2 * _AHEAD, dtype=np.int64)
    for block in range(begin, len(slots), _AHEAD):
        end = min(block + _AHEAD, len(slots))
        for i in range(block, end):
            keys[i - block] = _hash(letters, bounds[i], bounds[i + 1] - bounds[i])
        _touch(keys, end - block, table, ends, text)
        for i in range(block, end):
            first, size, key = bounds[i], bounds[i + 1] - bounds[i], keys[i - block]
            row = key & mask
            while table[row, 1] != _FREE and not (
                table[row, 0] == key and _is_named(letters, first, size, ends, text, table[row, 1])
            ):
                row = (row + 1) & mask
            if table[row, 1] == _FREE:
                slot = used[0]
                start = ends[slot]
                if 2 * (slot + 1) > len(table) or start + size > len(text):
                    return i
                for x in range(size):
                    text[start + x] = letters[first + x]
                ends[slot + 1] = start + size
                table[row, 0], table[row, 1] = key, slot
                used[0] = slot + 1
            slots[i] = table[row, 1]
    return len(slots)


@compiled
def _touch(
    keys: NDArray[np.int64],
    n: int,
    table: NDArray[np.int64],
    ends: NDArray[np.int64],
    text: NDArray[np.uint8],
) -> None:
    """Read what will be needed, so that the processor fetches it for many entities at once."""
    mask = len(table) - 1
    for i in range(n):
        keys[_AHEAD + i] = table[keys[i] & mask, 1]
    for i in range(n):
        keys[_AHEAD + i] = ends[max(0, keys[_AHEAD + i])]
    for i in range(n):
        keys[_AHEAD + i] = text[min(len(text) - 1, keys[_AHEAD + i])]


@compiled
def _hash(letters: NDArray[np.uint8], first: int, size: int) -> int:
    """FNV-1a over the bytes, then the finaliser of MurmurHash3 to spread what FNV leaves close."""
    h = np.uint64(0xCBF29CE484222325)
    for x in range(size):
        h = (h ^ np.uint64(letters[first + x])) * np.uint64(0x100000001B3)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return int(np.int64(h ^ (h >> np.uint64(33))))


@compiled
def _is_named(
    letters: NDArray[np.uint8],
    first: int,
    size: int,
    ends: NDArray[np.int64],
    text: NDArray[np.uint8],
    slot: int,
) -> bool:
    start = ends[slot]
    if ends[slot + 1] - start != size:
        return False
    for x in range(size):  # noqa: SIM110 - compiled: a plain loop
        if text[start + x] != letters[first + x]:
            return False
    return True


@compiled
def _move(rows: NDArray[np.int64], table: NDArray[np.int64]) -> None:
    mask = len(table) - 1
    for i in range(len(rows)):
        if rows[i, 1] != _FREE:
            row = rows[i, 0] & mask
            while table[row, 1] != _FREE:
                row = (row + 1) & mask
            table[row, 0], table[row, 1] = rows[i, 0], rows[i, 1]
