"""Where the parts of Kafka's records stand, and the Python objects made of them all at once.

A compiled loop finds the places; another lays byte strings out as MessagePack, of which msgspec
makes the objects: 20 ns each, against 70 ns for cutting them out one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.byte_columns import NULL
from streams.compiled import compiled

_NULLABLE_BYTES = msgspec.msgpack.Decoder(list[bytes | None])


@dataclass(frozen=True, slots=True)
class RecordPlaces:
    """n records in log order, whose parts stand in ``data``.

    ``offsets`` and ``timestamps_ms`` have the shape (n,); ``places`` (6, n) has start and length of
    key, value and the wanted header, with a length of :data:`NULL` for what is absent.
    """

    data: bytes
    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    places: NDArray[np.int64]


def find_records(
    data: bytes, batches: NDArray[np.int64], header: str
) -> tuple[RecordPlaces, int | None]:
    """Return the records of some batches, and the first batch that is malformed.

    ``batches`` (m, 6): start and end of their records in ``data``, how many there are, first
    offset, first time, and the time of all (or :data:`NULL`). ``header`` is the wanted one.
    """
    count = int(batches[:, 2].sum())
    offsets, times_ms = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    places = np.empty((6, count), dtype=np.int64)
    name = _array(header.encode())
    malformed = _find_records(_array(data), batches, name, offsets, times_ms, places)
    records = RecordPlaces(data, offsets, times_ms, places)
    return records, None if malformed == len(batches) else malformed


def objects_at(
    data: bytes, starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> list[bytes | None]:
    """Return the byte strings at n places of ``data``; a length of :data:`NULL` gives None."""
    room = int(np.maximum(lengths, 0).sum()) + 5 * (len(lengths) + 1)
    out = np.empty(room, dtype=np.uint8)
    size = _pack(_array(data), starts, lengths, out)
    return _NULLABLE_BYTES.decode(out[:size].data)


def _array(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, dtype=np.uint8)


@compiled
def _varint(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """Return the number at a place and the place after it, which is beyond ``end`` if it is cut."""
    shift, bits = np.uint64(0), np.uint64(0)
    while at < end and shift < np.uint64(64):
        byte = np.uint64(data[at])
        at += 1
        bits |= (byte & np.uint64(0x7F)) << shift
        if byte < np.uint64(0x80):
            half, sign = np.int64(bits >> np.uint64(1)), np.int64(bits & np.uint64(1))
            return int(half ^ -sign), at
        shift += np.uint64(7)
    return 0, end + 1


@compiled
def _length(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """Return the length at a place, of what must end before ``end``, and the place after it."""
    length, at = _varint(data, at, end)
    return (length, at) if length <= end - at else (0, end + 1)


@compiled
def _find_records(
    data: NDArray[np.uint8],
    batches: NDArray[np.int64],
    wanted: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    times_ms: NDArray[np.int64],
    places: NDArray[np.int64],
) -> int:
    """Fill the arrays; return the first malformed batch, or how many there are."""
    i = 0
    for b in range(len(batches)):
        at, end, count, base_offset, first_ms, time_of_all_ms = batches[b]
        for _ in range(count):
            size, at = _length(data, at, end)
            if size < 0 or at > end:
                return b
            stop = at + size
            at += 1  # attributes: none are defined
            delta_ms, at = _varint(data, at, stop)
            delta, at = _varint(data, at, stop)
            offsets[i] = base_offset + delta
            times_ms[i] = first_ms + delta_ms if time_of_all_ms == NULL else time_of_all_ms
            for part in range(0, 4, 2):
                length, at = _length(data, at, stop)
                places[part, i], places[part + 1, i] = at, max(length, NULL)
                at += max(length, 0)
            places[4, i], places[5, i] = 0, NULL
            headers, at = _varint(data, at, stop)
            while headers > 0 and at <= stop:
                headers -= 1
                length, name = _length(data, at, stop)
                at = name + max(length, 0)
                same = length == len(wanted) and at <= stop
                for j in range(length if same else 0):
                    same = same and data[name + j] == wanted[j]
                length, at = _length(data, at, stop)
                if same and length >= 0:
                    places[4, i], places[5, i] = at, length
                at += max(length, 0)
            if at != stop:
                return b
            i += 1
        if at != end:
            return b
    return len(batches)


@compiled
def _pack(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> int:
    """Write byte strings as a MessagePack array of ``bin`` and ``nil``; return its length."""
    at = 5
    out[0] = 0xDD
    for i in range(4):
        out[1 + i] = (len(lengths) >> (24 - 8 * i)) & 0xFF
    for i in range(len(lengths)):
        length = lengths[i]
        if length == NULL:
            out[at] = 0xC0
            at += 1
            continue
        kind = 0 if length < 1 << 8 else 1 if length < 1 << 16 else 2
        out[at] = 0xC4 + kind
        for shift in range(8 * ((1 << kind) - 1), -1, -8):
            at += 1
            out[at] = (length >> shift) & 0xFF
        at += 1
        to, source = out[at : at + length], data[starts[i] : starts[i] + length]
        for j in range(np.uint64(length)):  # of no sign, or each index is checked for it
            to[j] = source[j]
        at += length
    return at
