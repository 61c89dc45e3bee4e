"""Stretches of the log as columns, cached: immutable Arrow files of aligned offset ranges.

A topic's partition is cut at multiples of :data:`SEGMENT_OFFSETS`. Each slot has at most one file,
``<first>-<end>-<sha256>.arrow``, under
``home/segments/<topic>/<address>/<partition>``; the address covers the topic's id, what decides
the columns (the definition's hash) and the format. So a segment is never wrong: a recreated topic
or another definition has another address, a damaged file does not match its name, and a later
training reads from Kafka only what came after the last file. A file is memory-mapped on reading.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import structlog

from streams.replay import read_ranges
from streams.snapshots import log_identity
from training.dataset.columns import LogDecoder

SEGMENT_OFFSETS = 65_536
FORMAT = 1
_NAME = re.compile(r"(\d{15})-(\d{15})-([0-9a-f]{64})\.arrow")
_LOG = structlog.get_logger()

Ranges = Mapping[int, tuple[int, int]]
"""Partition → (first offset, end offset, exclusive)."""


@dataclass(frozen=True)
class _Cached:
    first: int
    end: int
    sha256: str
    path: Path


@dataclass(frozen=True)
class _Slot:
    """What is wanted of one aligned range: offsets [first, end), and the file that has some."""

    first: int
    end: int
    cached: _Cached | None

    @property
    def read_from(self) -> int:
        """The first offset that no file has."""
        return self.cached.end if self.cached else self.first


class SegmentStore:
    """Reads columns of one topic, from files where they are and from Kafka where not."""

    def __init__(
        self,
        bootstrap: str,
        home: Path,
        decoder: LogDecoder,
        segment_offsets: int = SEGMENT_OFFSETS,
    ) -> None:
        self._bootstrap = bootstrap
        self._decoder = decoder
        self._size = segment_offsets
        address = "\0".join(
            [decoder.topic, log_identity(bootstrap, decoder.topic), decoder.hash,
             str(FORMAT), str(segment_offsets)]
        )  # fmt: skip
        digest = hashlib.sha256(address.encode()).hexdigest()[:20]
        self._folder = home / "segments" / decoder.topic / digest
        self.records_from_kafka = 0

    @property
    def schema(self) -> pa.Schema:
        """The columns of the rows."""
        return self._decoder.schema

    @property
    def address(self) -> str:
        """What the segments' content is a function of, beside the offsets: a digest of it."""
        return self._folder.name

    def tables(self, ranges: Ranges) -> Iterator[pa.Table]:
        """Yield the rows of ``ranges`` by partition and offset, a segment at a time.

        Raises:
            BrokerError: Kafka fails where it has to be read.
            StateError: the topic has records that are not the decoder's.
        """
        for partition, (first, end) in sorted(ranges.items()):
            for table in self._tables_of(partition, first, end):
                yield _between(table, first, end)

    def read(self, ranges: Ranges) -> pa.Table:
        """Return the rows of ``ranges`` at once; errors as :meth:`tables`."""
        return pa.concat_tables([self._decoder.schema.empty_table(), *self.tables(ranges)])

    def _tables_of(self, partition: int, first: int, end: int) -> Iterator[pa.Table]:
        folder = self._folder / str(partition)
        slots = deque(self._slots(folder, first, end))
        while slots:
            slot = slots.popleft()
            table = self._load(slot.cached) if slot.cached else None
            if table is not None and slot.read_from >= slot.end:
                yield table
                continue
            # One reading of the log covers what no file has; only its first slot may be begun.
            run = [slot if table is not None else replace(slot, cached=None)]
            while slots and slots[0].cached is None:
                run.append(slots.popleft())
            begun = self._decoder.schema.empty_table() if table is None else table
            for fetched, rows in self._fetch(partition, run, begun):
                yield self._write(folder, fetched, rows)

    def _slots(self, folder: Path, first: int, end: int) -> list[_Slot]:
        cached = _files(folder)
        starts = range(first - first % self._size, end, self._size) if first < end else range(0)
        return [_Slot(s, min(end, s + self._size), cached.get(s)) for s in starts]

    def _fetch(
        self, partition: int, run: list[_Slot], begun: pa.Table
    ) -> Iterator[tuple[_Slot, pa.Table]]:
        """Read adjacent slots from Kafka in one go; ``begun`` is what a file has of the first."""
        waiting = deque(run)
        read = begun
        wanted = {partition: (run[0].read_from, run[-1].end)}
        for batch in read_ranges(self._bootstrap, self._decoder.topic, wanted):
            self.records_from_kafka += len(batch)
            read = pa.concat_tables([read, pa.Table.from_batches([self._decoder.decode(batch)])])
            while waiting and batch.offsets[-1] >= waiting[0].end - 1:
                slot = waiting.popleft()
                yield slot, _between(read, slot.first, slot.end)
                read = _between(read, slot.end, run[-1].end)
        for slot in waiting:  # the log may end in offsets that hold no record
            yield slot, _between(read, slot.first, slot.end)

    def _load(self, cached: _Cached) -> pa.Table | None:
        """Return the mapped columns of a file, or None, with a warning, where it is damaged."""
        try:
            with pa.memory_map(str(cached.path)) as file:
                content = file.read_buffer()
            if hashlib.sha256(content).hexdigest() == cached.sha256:
                return pa.ipc.open_file(pa.BufferReader(content)).read_all()
            reason = "its content does not match the checksum in its name"
        except (OSError, pa.ArrowException) as error:
            reason = str(error)
        _LOG.warning("a damaged segment is rebuilt from the log", file=str(cached.path), why=reason)
        cached.path.unlink(missing_ok=True)
        return None

    def _write(self, folder: Path, slot: _Slot, table: pa.Table) -> pa.Table:
        """Write a slot's file at one blow, drop the shorter one, and return the mapped columns.

        Where the disk does not take it the columns are returned from memory: it is only a cache.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        content = sink.getvalue()
        sha256 = hashlib.sha256(content).hexdigest()
        path = folder / f"{slot.first:015d}-{slot.end:015d}-{sha256}.arrow"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write_atomically(path, content)
        except OSError as error:
            _LOG.warning("a segment can't be cached; the next training reads Kafka again",
                         file=str(path), why=str(error))  # fmt: skip
            return table
        if slot.cached is not None:
            slot.cached.path.unlink(missing_ok=True)
        mapped = self._load(_Cached(slot.first, slot.end, sha256, path))
        return table if mapped is None else mapped


def _files(folder: Path) -> dict[int, _Cached]:
    """Return the longest file of each slot, by first offset."""
    found: dict[int, _Cached] = {}
    for path in sorted(folder.glob("*.arrow")):
        match = _NAME.fullmatch(path.name)
        if match:
            cached = _Cached(int(match[1]), int(match[2]), match[3], path)
            found[cached.first] = cached  # names sort by end within a slot
    return found


def _between(table: pa.Table, first: int, end: int) -> pa.Table:
    """Return the rows with offsets in [first, end); offsets ascend."""
    low, high = np.searchsorted(table["offset"].to_numpy(), [first, end])
    return table.slice(int(low), int(high - low))


def _write_atomically(path: Path, content: pa.Buffer) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
