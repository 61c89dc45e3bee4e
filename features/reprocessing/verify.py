"""Replay: features computed again from the log, and compared with what the worker had emitted.

One stage at a time: the log that counts is what the stage reads, so a stage after the first is
replayed from its re-keyed topic. Labels are applied in the order that the emitted records tell.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from features.definition import Definition
from features.engine.engine import FeatureEngine
from features.processing.label_reading import PartitionLabels, open_labels
from features.processing.output import StageOutput
from features.processing.selection import from_offset
from features.processing.stages import Stage, stages_of
from streams.batch import LogBatch
from streams.positions import PositionReader
from streams.replay import offset_bounds, read_ranges
from streams.snapshots import SnapshotStore
from streams.stream import EventStream, LabelStream
from streams.topics import Topics

MISMATCHES_KEPT = 20

Ranges = Mapping[int, tuple[int, int]]
"""Partition → [first, end) of offsets in the topic that the stage reads."""


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
    """What the events of a partition give, (n,) each, ascending in ``offsets``.

    Partition and offset are what the output calls the source, or the origin of re-keyed events.
    """

    offsets: NDArray[np.int64]
    hashes: NDArray[np.int64]  # of the values
    targets: NDArray[np.int64]  # the partitions of the output
    seen: NDArray[np.int64]  # how often each was found there


class Replay:
    """Recomputes the features of one pipeline, or what one of its stages made, and compares.

    Args:
        bootstrap: the brokers.
        topics: the pipeline's.
        definition: the features.
        events: the stream.
        snapshots: start from a partition's snapshot where it stands before the range, in place of
            the beginning of the log; quicker, and it proves only what comes after the snapshot.
        labels: the labels, where features are made of them.
        stage: which stage, by number; the last one, that makes the features, without it.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        definition: Definition,
        events: EventStream,
        snapshots: SnapshotStore | None = None,
        labels: LabelStream | None = None,
        stage: int | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._stage = stages_of(definition, events, labels, topics)[-1 if stage is None else stage]
        self._events = events
        self._output = StageOutput(self._stage)
        self._snapshots = snapshots

    @property
    def stage(self) -> Stage:
        """What is replayed."""
        return self._stage

    def run(self, ranges: Ranges | None = None) -> ReplayReport:
        """Replay ``ranges``, by default everything, and compare with the topic of the output.

        Windows need the events before the range, so reading starts at the beginning of the log (or
        a snapshot); only the range is compared, and of it what the worker has committed. Values
        are compared by 64-bit keyed hashes of their bytes.

        Raises:
            BrokerError: the log can't be read.
            StateError: the output holds a record that is none.
        """
        started, report = time.perf_counter(), ReplayReport()
        partitions, stage = self._events.partitions, self._stage
        bounds = offset_bounds(self._bootstrap, stage.input, partitions)
        emitted = offset_bounds(self._bootstrap, stage.output, partitions)
        committed = self._committed()
        digest = hashlib.sha256()
        expected: list[_Made] = []
        wanted: dict[int, tuple[int, int]] = {}
        for partition in sorted(ranges if ranges is not None else bounds):
            log_first, log_end = bounds[partition]
            first, wanted_end = ranges[partition] if ranges is not None else (log_first, log_end)
            end = min(wanted_end, log_end, committed.get(partition, 0))
            report.pending += max(0, min(wanted_end, log_end) - max(first, end))
            wanted[partition] = first, end
            expected.append(self._recompute(partition, (log_first, first, end), report, digest))
            if stage.is_last:  # one after the other, so that one at a time is in memory
                places = {partition: emitted[partition]}
                self._compare(wanted, _by_partition(expected, [partition]), places, report)
                expected.clear()
        if expected:
            if stage.number:  # by their origins nobody can tell which ones are not in the range
                part = bool(report.pending or ranges is not None)
                wanted = dict.fromkeys(range(partitions), (0, 0 if part else _EVERYTHING))
            self._compare(wanted, _by_partition(expected, wanted), emitted, report)
        report.digest = digest.hexdigest()
        report.seconds = time.perf_counter() - started
        return report

    def _committed(self) -> dict[int, int]:
        reader = PositionReader(self._bootstrap)
        try:
            return reader.committed(self._stage.group).get(self._stage.input, {})
        finally:
            reader.close()

    def _recompute(
        self,
        partition: int,
        stretch: tuple[int, int, int],
        report: ReplayReport,
        digest: hashlib._Hash,
    ) -> _Made:
        """Return what [first, end) gives, with the state of the log from its first offset."""
        log_first, first, end = stretch
        started = time.perf_counter()
        engine, start, labels = self._state(partition, log_first, first)
        made: list[_Made] = [(_NONE, _NONE, _NONE, _NONE)]
        for batch in self._read(self._stage.input, partition, start, end):
            report.events += len(batch)
            if labels is None:
                processed = engine.process(batch)
            else:
                processed = engine.process(batch, *labels.take(batch))
            processed = from_offset(processed, first)
            values, targets = self._output.of(processed, batch)
            digest.update(b"".join(values))
            made.append((*self._output.identities(processed.rows), _hashes(values), targets))
            report.dead_letters += len(processed.dead)
        if labels is not None:
            labels.close()
        report.compute_seconds += time.perf_counter() - started
        whole = _joined(made)
        report.rows += len(whole[0])
        return whole

    def _state(
        self, partition: int, log_first: int, first: int
    ) -> tuple[FeatureEngine, int, PartitionLabels | None]:
        """Return the state to begin with, where it stands, and the labels that follow."""
        stage = self._stage
        snapshot = self._snapshots.load(partition) if self._snapshots else None
        if snapshot is not None and not log_first <= snapshot.next_offset <= first:
            snapshot = None
        arrays = snapshot.arrays if snapshot else None
        start = snapshot.next_offset if snapshot else log_first
        engine = stage.engine() if arrays is None else stage.restore(arrays)
        if not stage.reads_labels:
            return engine, start, None
        first = engine.label_offset
        return engine, start, open_labels(self._bootstrap, stage, partition, start, first, arrays)

    def _compare(
        self,
        wanted: Mapping[int, tuple[int, int]],
        expected: Mapping[int, _Expected],
        emitted: Mapping[int, tuple[int, int]],
        report: ReplayReport,
    ) -> None:
        """Compare partitions of the input with what stands in partitions of the output."""
        for number, stretch in emitted.items():
            for batch in self._read(self._stage.output, number, *stretch):
                partitions, offsets = self._output.places(batch)
                hashes = _hashes(batch.values)
                for partition, given in expected.items():
                    mine = partitions == partition
                    found = offsets[mine], hashes[mine]
                    _match(partition, given, number, found, wanted[partition], report)
        for partition, given in expected.items():
            report.note(partition, given.offsets[given.seen == 0], "missing")
            report.repeated += int(np.maximum(given.seen - 1, 0).sum())

    def _read(self, topic: str, partition: int, first: int, end: int) -> Iterator[LogBatch]:
        return read_ranges(self._bootstrap, topic, {partition: (first, end)})


def _match(
    partition: int,
    given: _Expected,
    target: int,
    found: tuple[NDArray[np.int64], NDArray[np.int64]],
    wanted: tuple[int, int],
    report: ReplayReport,
) -> None:
    """Compare the records of ``partition`` that stand in the output's partition ``target``.

    ``found`` are their offsets and hashes, (n,) each; those outside ``wanted`` are
    nobody's concern.
    """
    offsets, hashes = found
    place = np.searchsorted(given.offsets, offsets)
    known = place < len(given.offsets)
    known[known] = given.offsets[place[known]] == offsets[known]
    alien = ~known & (offsets >= wanted[0]) & (offsets < wanted[1])
    report.note(partition, offsets[alien], "unexpected")
    report.records += int(alien.sum() + known.sum())
    place, offsets, hashes = place[known], offsets[known], hashes[known]
    same = (given.hashes[place] == hashes) & (given.targets[place] == target)
    report.note(partition, offsets[~same], "different")
    np.add.at(given.seen, place, 1)


_Made = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Partitions and offsets of rows, hashes of their values, partitions of the output; (n,) each."""

_NONE = np.empty(0, dtype=np.int64)
_EVERYTHING = 2**63 - 1


def _joined(made: Sequence[_Made]) -> _Made:
    partitions, offsets, hashes, targets = map(np.concatenate, zip(*made, strict=True))
    return partitions, offsets, hashes, targets


def _by_partition(made: Sequence[_Made], numbers: Iterable[int]) -> dict[int, _Expected]:
    """Return partition → what its events give."""
    partitions, offsets, hashes, targets = _joined(made)
    order = np.lexsort((offsets, partitions))
    found: dict[int, _Expected] = {}
    for number in numbers:
        rows = order[partitions[order] == number]
        seen = np.zeros(len(rows), dtype=np.int64)
        found[number] = _Expected(offsets[rows], hashes[rows], targets[rows], seen)
    return found


def _hashes(values: list[bytes] | list[bytes | None]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, values), dtype=np.int64, count=len(values))
