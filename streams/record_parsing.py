"""Fetched record batches (message format 2) read in bulk: no Python code per record.

:mod:`streams.record_batch` has the format. Batches of aborted transactions, markers of transactions
and what was compacted away only move the position.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import lz4.frame
import numpy as np
from aiokafka.codec import gzip_decode, snappy_decode, zstd_decode

from streams.batch import LogBatch
from streams.byte_columns import NULL, ByteColumn
from streams.checksum import first_damaged
from streams.errors import BrokerError
from streams.record_batch import CRC_FROM, HEADER_BYTES, LENGTH_FROM, encode_batches
from streams.record_scan import RecordPlaces, find_records, objects_at

TRACEPARENT = "traceparent"

_HEAD = struct.Struct(">qiibIhiqqqhii")
_MAGIC_AT = 16
_SMALLEST_RECORD = 7
_CODEC, _LOG_APPEND_TIME, _TRANSACTIONAL, _CONTROL = 0x07, 0x08, 0x10, 0x20
_DECOMPRESSORS: Mapping[int, Callable[[bytes], bytes]] = {
    1: gzip_decode,
    2: snappy_decode,
    3: lz4.frame.decompress,
    4: zstd_decode,
}


class OldFormatError(Exception):
    """The records were written in a message format before 2, which is not read here."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """Records of one partition, [start_offset, batch.next_offset).

    ``batch`` may be empty: a transaction marker moves the position and brings no record.
    ``traceparents`` maps offsets to the header of that name, for the records that carry one.
    """

    start_offset: int
    batch: LogBatch
    traceparents: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Where one batch's records stand in the response, and how to read them."""

    start: int
    end: int
    codec: int
    crc: int
    count: int  # 0 where none is to be read: a marker, or records of an aborted transaction
    base_offset: int
    next_offset: int
    first_ms: int
    append_ms: int  # the time of all records where the broker gave it, else NULL


class FetchedRecords:
    """What one fetch brought of a partition, read with the isolation of committed records.

    Args:
        topic: of the partition.
        partition: its number.
        data: the record batches of the response; the last may be cut off.
        position: the offset asked for; the first batch may begin before it.
        aborted: (producer id, first offset) of the aborted transactions, as the response has them.

    Raises:
        OldFormatError: the records are of a format before 2.
        BrokerError: a batch is damaged.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        data: bytes,
        position: int,
        aborted: Sequence[tuple[int, int]] = (),
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._data = data
        self._batches = _batches_of(data, aborted)
        self._next = 0  # of the batches
        self._records: RecordPlaces | None = None
        self._taken = 0  # of the records
        self.position = position
        self.end = self._batches[-1].next_offset if self._batches else position

    @property
    def is_taken(self) -> bool:
        """Whether nothing is left."""
        return self._records is None and self._next == len(self._batches)

    def take(self, max_records: int) -> Fetched:
        """Return the next records, at most so many; perhaps none, and then the position moves."""
        start = self.position
        if self._records is None:
            self._parse(max_records)
        records = self._records
        if records is None:
            return self._fetched(start, None, 0, 0)
        first, last = self._taken, min(self._taken + max_records, len(records.offsets))
        if last == len(records.offsets):
            self._records, self._taken = None, 0
            self.position = max(start, self._batches[self._next - 1].next_offset)
        else:
            self._taken = last
            self.position = int(records.offsets[last - 1]) + 1
        return self._fetched(start, records, first, last)

    def _fetched(self, start: int, records: RecordPlaces | None, first: int, last: int) -> Fetched:
        if records is None:
            batch = LogBatch(
                self._topic, self._partition, _NOTHING, _NOTHING, [], [], self.position
            )
            return Fetched(start, batch, {})
        data, places = records.data, records.places[:, first:last]
        batch = LogBatch(
            topic=self._topic,
            partition=self._partition,
            offsets=records.offsets[first:last],
            timestamps_ms=records.timestamps_ms[first:last],
            keys=objects_at(data, places[0], places[1]),
            values=objects_at(data, places[2], places[3]),
            next_offset=self.position,
        )
        traced = np.flatnonzero(places[5] != NULL)
        if not len(traced):
            return Fetched(start, batch, {})
        traces = objects_at(data, places[4, traced], places[5, traced])
        offsets = batch.offsets[traced].tolist()
        return Fetched(start, batch, dict(zip(offsets, traces, strict=True)))  # type: ignore[arg-type]

    def _parse(self, wanted: int) -> None:
        """Read batches until there are ``wanted`` records, or all are read."""
        passed, count = [], 0
        while self._next < len(self._batches) and count < wanted:
            batch = self._batches[self._next]
            self._next += 1
            if batch.next_offset > self.position:
                passed.append(batch)
                count += batch.count
        if not passed:
            return
        self._check(passed)
        chosen = [batch for batch in passed if batch.count]
        if not chosen:
            self.position = passed[-1].next_offset
            return
        self._records = self._read(chosen)
        self._taken = int(np.searchsorted(self._records.offsets, self.position))

    def _check(self, batches: Sequence[_Batch]) -> None:
        starts, ends, crcs = np.array(
            [(b.start - HEADER_BYTES + CRC_FROM, b.end, b.crc) for b in batches], dtype=np.int64
        ).T.copy()
        damaged = first_damaged(self._data, starts, ends, crcs)
        if damaged is not None:
            raise self._damaged(batches[damaged], "its checksum is wrong")

    def _read(self, batches: Sequence[_Batch]) -> RecordPlaces:
        """Return where the records of some batches stand."""
        data = self._data
        bounds = [(batch.start, batch.end) for batch in batches]
        if any(batch.codec for batch in batches):
            parts = [self._decompressed(batch) for batch in batches]
            data, ends = b"".join(parts), np.cumsum([0, *map(len, parts)]).tolist()
            bounds = list(pairwise(ends))
        count = sum(batch.count for batch in batches)
        if count * _SMALLEST_RECORD > sum(end - start for start, end in bounds):
            raise self._damaged(batches[0], f"it can't hold {count} records")
        table = np.array(
            [
                (start, end, batch.count, batch.base_offset, batch.first_ms, batch.append_ms)
                for batch, (start, end) in zip(batches, bounds, strict=True)
            ],
            dtype=np.int64,
        )
        records, malformed = find_records(data, table, TRACEPARENT)
        if malformed is not None:
            raise self._damaged(batches[malformed], "its records do not have the lengths they say")
        return records

    def _decompressed(self, batch: _Batch) -> bytes:
        data = self._data[batch.start : batch.end]
        if batch.codec == 0:
            return data
        try:
            return _DECOMPRESSORS[batch.codec](data)
        except KeyError:
            raise self._damaged(batch, f"no compression has the number {batch.codec}") from None
        except Exception as error:
            raise self._damaged(batch, f"it can't be decompressed ({error!r})") from error

    def _damaged(self, batch: _Batch, why: str) -> BrokerError:
        return BrokerError(
            f"{self._topic} partition {self._partition}: the batch at offset {batch.base_offset} "
            f"is damaged: {why}. Read it again; if that lasts, look at the broker's disk and the "
            "network"
        )


def warm_up() -> None:
    """Load the compiled loops (compiled once on a machine), so that the first fetch is quick."""
    one = ByteColumn.of([b"x"])
    (batch,) = encode_batches(one, one, np.zeros(1, dtype=np.int64))
    FetchedRecords("", 0, batch.to_bytes(-1, -1, -1), 0).take(1)


def _batches_of(data: bytes, aborted: Sequence[tuple[int, int]]) -> list[_Batch]:
    """Return the whole batches of a response, knowing which belong to aborted transactions."""
    pending = sorted(aborted, key=lambda entry: entry[1], reverse=True)
    aborting: set[int] = set()
    found: list[_Batch] = []
    at = 0
    while at + HEADER_BYTES <= len(data):
        if data[at + _MAGIC_AT] < 2:
            raise OldFormatError
        base, length, _, _, crc, *below = _HEAD.unpack_from(data, at)
        attributes, last_delta, first_ms, max_ms, producer, _, _, count = below
        end = at + LENGTH_FROM + length
        if end > len(data):
            break
        while pending and pending[-1][1] <= base:
            aborting.add(pending.pop()[0])
        if attributes & _CONTROL:
            # A transaction that is being aborted ends with this; another's is in nobody's way.
            aborting.discard(producer)
        if attributes & _CONTROL or (attributes & _TRANSACTIONAL and producer in aborting):
            count = 0
        append_ms = max_ms if attributes & _LOG_APPEND_TIME else NULL
        found.append(
            _Batch(
                at + HEADER_BYTES, end, attributes & _CODEC, crc, count,
                base, base + last_delta + 1, first_ms, append_ms,
            )
        )  # fmt: skip
        at = end
    return found


_NOTHING = np.empty(0, dtype=np.int64)
