"""Kafka's record batches (message format 2), written in bulk: no Python code per record.

A batch is a header of 61 bytes, of which all from the attributes on is covered by a CRC-32C, and
the records, which may be compressed as one. The layout is that of
https://kafka.apache.org/documentation/#recordbatch: numbers of the header are big-endian, those of
the records are zigzag varints, and times and offsets are differences to the first record's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import lz4.frame
import numpy as np
from numpy.typing import NDArray

from streams.byte_columns import NULL, ByteColumn
from streams.checksum import crc32c
from streams.compiled import compiled

MAX_BATCH_BYTES = 900_000
"""Of a batch before compression: below the broker's limit (``max.message.bytes``, 1 MiB)."""

HEADER_BYTES = 61
CRC_FROM = 21
"""The checksum covers all bytes from here on."""

LENGTH_FROM = 12
"""The batch's length counts the bytes from here on."""

_MAGIC = 2
_ABOVE_CRC = struct.Struct(">qiibI")
_BELOW_CRC = struct.Struct(">hiqqqhii")
_VARINT_BYTES = 10  # at most

_COMPRESSORS: dict[str | None, tuple[int, Callable[[memoryview], bytes]]] = {
    None: (0, bytes),
    # Kafka knows no blocks that depend on each other.
    "lz4": (3, lambda data: bytes(lz4.frame.compress(data, block_linked=False))),
}


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """A batch that lacks only what the producer fills in.

    ``records``: their bytes, as ``attributes`` says compressed; ``count`` of them; the first one's
    and the newest timestamp, milliseconds since the epoch.
    """

    records: bytes
    count: int
    first_ms: int
    max_ms: int
    attributes: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return HEADER_BYTES + len(self.records)

    def to_bytes(self, producer_id: int, producer_epoch: int, base_sequence: int) -> bytes:
        """Return the batch as it is sent; -1 three times is a producer that is not idempotent."""
        below = _BELOW_CRC.pack(
            self.attributes, self.count - 1, self.first_ms, self.max_ms,
            producer_id, producer_epoch, base_sequence, self.count,
        )  # fmt: skip
        crc = crc32c(self.records, crc32c(below))
        above = _ABOVE_CRC.pack(0, self.size - LENGTH_FROM, -1, _MAGIC, crc)
        return b"".join((above, below, self.records))


def encode_batches(
    keys: ByteColumn,
    values: ByteColumn,
    timestamps_ms: NDArray[np.int64],
    fixed_headers: Sequence[tuple[str, bytes]] = (),
    headers: Sequence[tuple[str, ByteColumn]] = (),
    compression: str | None = None,
    max_bytes: int = MAX_BATCH_BYTES,
) -> list[RecordBatch]:
    """Return n records in order, in as few batches as ``max_bytes`` (before compression) allows.

    Args:
        keys: (n,) or absent.
        values: (n,) or absent.
        timestamps_ms: (n,) milliseconds since the epoch.
        fixed_headers: stand at every record, first.
        headers: (name, (n,) values); where a value is absent the record has no such header.
        compression: None or ``"lz4"``.
        max_bytes: a single record that is larger still gets a batch, and the broker's refusal.
    """
    n, (codec, compress) = len(values), _COMPRESSORS[compression]
    fixed = b"".join(
        _with_length(name.encode()) + _with_length(value) for name, value in fixed_headers
    )
    names = [_with_length(name.encode()) for name, _ in headers]
    columns = [column for _, column in headers]
    shifts = np.cumsum([0, *(len(column.data) for column in columns)])
    header_starts = np.empty((len(columns), n), dtype=np.int64)
    header_lengths = np.empty((len(columns), n), dtype=np.int64)
    for i, column in enumerate(columns):
        header_starts[i] = column.starts + shifts[i]
        header_lengths[i] = column.lengths
    overhead = 1 + 6 * _VARINT_BYTES + len(fixed) + sum(map(len, names))
    overhead += _VARINT_BYTES * len(names)
    content = np.maximum(keys.lengths, 0) + np.maximum(values.lengths, 0)
    content += np.maximum(header_lengths, 0).sum(axis=0)
    largest = int(content.max(initial=0)) + overhead
    room = max(min(max_bytes, int(content.sum()) + n * overhead), largest)
    out = np.empty(room, dtype=np.uint8)
    batches: list[RecordBatch] = []
    begin = 0
    while begin < n:
        end, size, max_ms = _encode_records(
            begin,
            max_bytes - HEADER_BYTES,
            _array(keys.data), keys.starts, keys.lengths,
            _array(values.data), values.starts, values.lengths,
            timestamps_ms,
            _array(fixed), len(fixed_headers),
            _array(b"".join(names)), np.cumsum([0, *map(len, names)]),
            _array(b"".join(column.data for column in columns)), header_starts, header_lengths,
            out,
        )  # fmt: skip
        records = compress(out[:size].data)
        batches.append(
            RecordBatch(records, end - begin, int(timestamps_ms[begin]), int(max_ms), codec)
        )
        begin = end
    return batches


def warm_up() -> None:
    """Load the compiled loops (compiled once on a machine), so that the first batch is quick."""
    one = ByteColumn.of([b"x"])
    (batch,) = encode_batches(one, one, np.zeros(1, dtype=np.int64), [], [("x", one)])
    batch.to_bytes(-1, -1, -1)


def _array(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, dtype=np.uint8)


def _with_length(data: bytes) -> bytes:
    length, out = len(data) << 1, bytearray()
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*out, length]) + data


@compiled
def _varint_size(value: int) -> int:
    rest = np.uint64((value << 1) ^ (value >> 63))
    size = 1
    while rest > np.uint64(0x7F):
        rest >>= np.uint64(7)
        size += 1
    return size


@compiled
def _put_varint(out: NDArray[np.uint8], at: int, value: int) -> int:
    rest = np.uint64((value << 1) ^ (value >> 63))
    while rest > np.uint64(0x7F):
        out[at] = np.uint8((rest & np.uint64(0x7F)) | np.uint64(0x80))
        rest >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(rest)
    return at + 1


@compiled
def _put(out: NDArray[np.uint8], at: int, data: NDArray[np.uint8], start: int, length: int) -> int:
    to, source = out[at : at + length], data[start : start + length]
    for i in range(np.uint64(length)):  # of no sign, or each index is checked for being negative
        to[i] = source[i]
    return at + length


@compiled
def _put_nullable(
    out: NDArray[np.uint8], at: int, data: NDArray[np.uint8], start: int, length: int
) -> int:
    at = _put_varint(out, at, length)
    return _put(out, at, data, start, length) if length > 0 else at


@compiled
def _encode_records(
    begin: int,
    limit: int,
    key_data: NDArray[np.uint8],
    key_starts: NDArray[np.int64],
    key_lengths: NDArray[np.int64],
    value_data: NDArray[np.uint8],
    value_starts: NDArray[np.int64],
    value_lengths: NDArray[np.int64],
    times_ms: NDArray[np.int64],
    fixed: NDArray[np.uint8],
    fixed_count: int,
    names: NDArray[np.uint8],
    name_bounds: NDArray[np.int64],
    header_data: NDArray[np.uint8],
    header_starts: NDArray[np.int64],
    header_lengths: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> tuple[int, int, int]:
    """Write records from ``begin`` on into ``out``: at least one, and else up to ``limit`` bytes.

    Returns the first record that is not written, the bytes written, and the newest timestamp.
    """
    at = 0
    max_ms = times_ms[begin]
    i = begin
    while i < len(value_lengths):
        delta_ms = times_ms[i] - times_ms[begin]
        count = fixed_count
        body = 1 + _varint_size(delta_ms) + _varint_size(i - begin) + len(fixed)
        body += _varint_size(key_lengths[i]) + max(key_lengths[i], 0)
        body += _varint_size(value_lengths[i]) + max(value_lengths[i], 0)
        for h in range(len(header_lengths)):
            length = header_lengths[h, i]
            if length != NULL:
                count += 1
                body += name_bounds[h + 1] - name_bounds[h] + _varint_size(length) + length
        body += _varint_size(count)
        if i > begin and at + _varint_size(body) + body > limit:
            break
        at = _put_varint(out, at, body)
        out[at] = 0  # no attributes are defined
        at = _put_varint(out, at + 1, delta_ms)
        at = _put_varint(out, at, i - begin)
        at = _put_nullable(out, at, key_data, key_starts[i], key_lengths[i])
        at = _put_nullable(out, at, value_data, value_starts[i], value_lengths[i])
        at = _put_varint(out, at, count)
        at = _put(out, at, fixed, 0, len(fixed))
        for h in range(len(header_lengths)):
            length = header_lengths[h, i]
            if length != NULL:
                at = _put(out, at, names, name_bounds[h], name_bounds[h + 1] - name_bounds[h])
                at = _put_nullable(out, at, header_data, header_starts[h, i], length)
        max_ms = max(max_ms, times_ms[i])
        i += 1
    return i, at, max_ms
