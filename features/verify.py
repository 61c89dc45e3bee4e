"""Replay: features computed again from the log, and compared with what the worker had emitted."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.definition import Definition
from features.engine import FeatureEngine
from features.records import FeatureCodec
from features.selection import from_offset
from streams.batch import LogBatch
from streams.errors import StateError
from streams.positions import PositionReader
from streams.replay import offset_bounds, read_ranges
from streams.snapshots import SnapshotStore
from streams.stream import EventStream
from streams.topics import Topics
from streams.wire import Source

MISMATCHES_KEPT = 20

Ranges = Mapping[int, tuple[int, int]]
"""Partition → [first, end) of offsets in the events topic."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One event whose feature record is not what the log gives.

    ``kind``: ``"different"`` bytes, ``"missing"`` from the topic, or ``"unexpected"`` there.
    """

    partition: int
    source_offset: int
    kind: str


@dataclass
class ReplayReport:
    """What a replay found.

    ``events`` were read, from where the state began; ``rows`` are the feature records that the
    range gives and ``dead_letters`` its unusable events; ``records`` were found in the topic for
    the range, ``repeated`` of them more than once (after a crash); ``pending`` are events of the
    range that the worker has not committed yet, and so are not compared. ``digest`` is the SHA-256
    of all values of the range, in the order of partitions and offsets.
    """

    events: int = 0
    rows: int = 0
    dead_letters: int = 0
    records: int = 0
    repeated: int = 0
    pending: int = 0
    different: int = 0
    missing: int = 0
    unexpected: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)
    seconds: float = 0.0
    compute_seconds: float = 0.0
    digest: str = ""

    @property
    def identical(self) -> bool:
        """Whether the topic holds what the log gives, byte for byte."""
        return self.different + self.missing + self.unexpected == 0

    @property
    def events_per_s(self) -> float:
        """Events read, decoded, featurised and encoded, per second."""
        return self.events / self.compute_seconds if self.compute_seconds else 0.0

    def note(self, partition: int, offsets: NDArray[np.int64], kind: str) -> None:
        """Count mismatches at these source offsets, and keep the first ones."""
        setattr(self, kind, getattr(self, kind) + len(offsets))
        for offset in offsets[: MISMATCHES_KEPT - len(self.mismatches)].tolist():
            self.mismatches.append(Mismatch(partition, offset, kind))


@dataclass(frozen=True)
class _Expected:
    offsets: NDArray[np.int64]  # (n,) source offsets, ascending
    hashes: NDArray[np.int64]  # (n,) of the values


class Replay:
    """Recomputes the features of one pipeline and compares them.

    Args:
        bootstrap: the brokers.
        topics: the pipeline's.
        definition: the features.
        events: the stream.
        snapshots: start from a partition's snapshot where it stands before the range, in place of
            the beginning of the log; quicker, and it proves only what comes after the snapshot.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        definition: Definition,
        events: EventStream,
        snapshots: SnapshotStore | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = topics
        self._definition = definition
        self._events = events
        self._codec = FeatureCodec(definition, events)
        self._snapshots = snapshots
        self._source = msgspec.json.Decoder(_Sourced)

    def run(self, ranges: Ranges | None = None) -> ReplayReport:
        """Replay ``ranges``, by default everything, and compare with the features topic.

        Windows need the events before the range, so reading starts at the beginning of the log (or
        a snapshot); only the range is compared, and of it what the worker has committed. Values
        are compared by 64-bit keyed hashes of their bytes.

        Raises:
            BrokerError: the log can't be read.
            StateError: the features topic holds a record that is none.
        """
        started, report = time.perf_counter(), ReplayReport()
        partitions = self._events.partitions
        bounds = offset_bounds(self._bootstrap, self._topics.events, partitions)
        emitted = offset_bounds(self._bootstrap, self._topics.features, partitions)
        committed = self._committed()
        digest = hashlib.sha256()
        for partition in sorted(ranges if ranges is not None else bounds):
            log_first, log_end = bounds[partition]
            first, wanted_end = ranges[partition] if ranges is not None else (log_first, log_end)
            end = min(wanted_end, log_end, committed.get(partition, 0))
            report.pending += max(0, min(wanted_end, log_end) - max(first, end))
            expected = self._recompute(partition, (log_first, first, end), report, digest)
            self._compare(partition, (first, end), expected, emitted[partition], report)
        report.digest = digest.hexdigest()
        report.seconds = time.perf_counter() - started
        return report

    def _committed(self) -> dict[int, int]:
        reader = PositionReader(self._bootstrap)
        try:
            group = self._topics.group("features")
            return reader.committed(group).get(self._topics.events, {})
        finally:
            reader.close()

    def _recompute(
        self,
        partition: int,
        stretch: tuple[int, int, int],
        report: ReplayReport,
        digest: hashlib._Hash,
    ) -> _Expected:
        """Return what [first, end) gives, with the state of the log from its first offset."""
        log_first, first, end = stretch
        started = time.perf_counter()
        engine, start = self._engine(partition, log_first, first)
        offsets, hashes = [_NONE], [_NONE]
        for batch in self._read(self._topics.events, partition, start, end):
            report.events += len(batch)
            processed = from_offset(engine.process(batch), first)
            values = self._codec.encode(processed.rows)
            digest.update(b"".join(values))
            offsets.append(processed.rows.source_offsets)
            hashes.append(_hashes(values))
            report.dead_letters += len(processed.dead)
        report.compute_seconds += time.perf_counter() - started
        expected = _Expected(np.concatenate(offsets), np.concatenate(hashes))
        report.rows += len(expected.offsets)
        return expected

    def _engine(self, partition: int, log_first: int, first: int) -> tuple[FeatureEngine, int]:
        snapshot = self._snapshots.load(partition) if self._snapshots else None
        if snapshot is not None and log_first <= snapshot.next_offset <= first:
            engine = FeatureEngine.restore(self._definition, self._events, snapshot.arrays)
            return engine, snapshot.next_offset
        return FeatureEngine(self._definition, self._events), log_first

    def _compare(
        self,
        partition: int,
        wanted: tuple[int, int],
        expected: _Expected,
        emitted: tuple[int, int],
        report: ReplayReport,
    ) -> None:
        seen = np.zeros(len(expected.offsets), dtype=np.int64)
        for batch in self._read(self._topics.features, partition, *emitted):
            offsets, hashes = self._sources(batch), _hashes(batch.values)
            inside = (offsets >= wanted[0]) & (offsets < wanted[1])
            offsets, hashes = offsets[inside], hashes[inside]
            place = np.searchsorted(expected.offsets, offsets)
            known = place < len(expected.offsets)
            known[known] = expected.offsets[place[known]] == offsets[known]
            report.note(partition, offsets[~known], "unexpected")
            place, offsets, hashes = place[known], offsets[known], hashes[known]
            report.note(partition, offsets[expected.hashes[place] != hashes], "different")
            np.add.at(seen, place, 1)
            report.records += int(inside.sum())
        report.note(partition, expected.offsets[seen == 0], "missing")
        report.repeated += int(np.maximum(seen - 1, 0).sum())

    def _sources(self, batch: LogBatch) -> NDArray[np.int64]:
        decode = self._source.decode
        try:
            return np.array([decode(v).source.offset for v in batch.values], np.int64)  # type: ignore[arg-type]
        except (msgspec.MsgspecError, TypeError) as error:
            raise StateError(
                f"{batch.topic} partition {batch.partition}, offsets {int(batch.offsets[0])} to "
                f"{int(batch.offsets[-1])}: a record there is no feature record ({error}); another "
                "program wrote to the topic"
            ) from error

    def _read(self, topic: str, partition: int, first: int, end: int) -> Iterator[LogBatch]:
        return read_ranges(self._bootstrap, topic, {partition: (first, end)})


class _Sourced(msgspec.Struct):
    source: Source


_NONE = np.empty(0, dtype=np.int64)


def _hashes(values: list[bytes] | list[bytes | None]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, values), dtype=np.int64, count=len(values))
