"""The standing audit of a stage: a second engine follows its log and compares every record's bytes.

Whole partitions are followed, not chosen entities. To be exact an audit of some entities must read,
decode and admit every event all the same (watermark, lateness and repeated ids depend on all of
them), and must read every record of the output; that is more than half of the work. Where it is
too much, ``every`` takes every n-th partition.

A turn: (1) ask how far the stage has committed its input; (2) read its output up to the end as it
stands then, which holds all that was made of the input before; (3) compute from the input up to
there and compare. Where features are made of labels, the records themselves say how far those had
been read. The state is saved with the positions, so that the next run goes on there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.engine.engine import FeatureEngine, Processed
from features.processing.output import StageOutput
from features.processing.stages import Stage
from features.skew.audit import Difference, Tally, difference_of, whole_record
from features.skew.online import OnlineSample
from streams.batch import LogBatch
from streams.errors import StateError
from streams.positions import PositionReader
from streams.replay import offset_bounds, read_ranges
from streams.snapshots import Snapshot, SnapshotStore, log_identity
from streams.watchdog import beat
from streams.wire import Source

PIECE = 20_000
"""How many records of a partition a turn takes at most."""
REMEMBERED = 20_000
"""Of so many records per partition the bytes are kept: a second record of an event is compared."""

_META, _OUTPUT, _ONLINE = "position", "output", "online"


class _Place(msgspec.Struct):
    source: Source | None = None
    origin: Source | None = None
    labels: int = -1


@dataclass(frozen=True, slots=True)
class _Served:
    partition: int  # of the output
    offset: int  # in the output
    value: bytes
    labels: int


@dataclass
class _Partition:
    engine: FeatureEngine
    next_offset: int = 0
    labels: int = 0  # the next label offset that the engine has not applied
    compared: int = 0
    different: int = 0


@dataclass
class _Records:
    """Output records of one partition's events by event offset: not yet judged, and judged."""

    waiting: dict[int, list[_Served]] = field(default_factory=dict)
    judged: dict[int, bytes] = field(default_factory=dict)

    def remember(self, offset: int, value: bytes) -> None:
        self.judged[offset] = value
        if len(self.judged) > REMEMBERED:
            del self.judged[next(iter(self.judged))]


class StageAudit:
    """The audit of one stage of one definition. For one thread at a time.

    Args:
        bootstrap: the brokers.
        stage: what is audited.
        home: folder of the pipeline's state; the audit has ``skew`` in it.
        every: every which partition is followed, from 0 on.
        online: checks what the online store has of the same rows.

    Raises:
        BrokerError: the log can't be read.
    """

    def __init__(
        self,
        bootstrap: str,
        stage: Stage,
        home: Path,
        every: int = 1,
        online: OnlineSample | None = None,
    ) -> None:
        self.stage, self.online = stage, online
        self.tally, self.online_tally = Tally(), Tally()
        total = stage.events.partitions
        self._all = range(total)
        self._partitions = {p: _Partition(stage.engine()) for p in range(0, total, every)}
        self._records = {p: _Records() for p in self._all}
        self._output_at = dict.fromkeys(self._partitions if stage.is_last else self._all, 0)
        self._reach: dict[tuple[int, int], int] = {}
        self._by_input = stage.is_last or stage.number == 0
        self._output = StageOutput(stage)
        self._place = msgspec.json.Decoder(_Place).decode
        topics = [stage.input, stage.output, *([stage.topics.labels] if stage.reads_labels else [])]
        identity = " ".join(log_identity(bootstrap, topic) for topic in topics)
        self._snapshots = SnapshotStore(home / "skew" / stage.folder, identity)
        self._bootstrap = bootstrap
        self._positions = PositionReader(bootstrap)
        self._saved: dict[int, int] = {}
        self._load()

    @property
    def positions(self) -> dict[int, int]:
        """Partition → next offset of the stage's input that has not been audited."""
        return {number: partition.next_offset for number, partition in self._partitions.items()}

    @property
    def totals(self) -> dict[int, tuple[int, int]]:
        """Partition → (rows compared, of them different) since the audit's beginning."""
        return {n: (p.compared, p.different) for n, p in self._partitions.items()}

    def turn(self) -> int:
        """Audit what has been served since; return how many events were computed."""
        committed = self._positions.committed(self.stage.group).get(self.stage.input, {})
        ends = self._ends(self.stage.output)
        read = {q: self._read_output(q, ends[q]) for q in self._output_at}
        events = 0
        for number, partition in self._partitions.items():
            horizon = self._horizon(number, committed.get(number, 0), read)
            if horizon > partition.next_offset:
                events += horizon - partition.next_offset
                self._compute(number, partition, horizon)
        return events

    def check_online(self) -> None:
        """Compare the online store with the newest rows of its sample."""
        if self.online is not None:
            ends = self._ends(self.stage.input)
            compared, differences = self.online.check(ends, self.positions)
            self.online_tally.rows(compared, [])
            self.online_tally.differ(differences)

    def save(self) -> None:
        """Save the state, where anything was audited since."""
        if self._saved == self.positions:
            return
        arrays: dict[str, NDArray[Any]] = {}
        for number, p in self._partitions.items():
            meta = [p.next_offset, p.labels, p.compared, p.different]
            arrays[f"{number}.{_META}"] = np.array(meta, dtype=np.int64)
            arrays.update({f"{number}.{k}": v for k, v in p.engine.snapshot().items()})
        begins = dict(self._output_at)
        for records in self._records.values():
            for served in (one for several in records.waiting.values() for one in several):
                begins[served.partition] = min(begins[served.partition], served.offset)
        arrays[_OUTPUT] = np.array(sorted(begins.items()), dtype=np.int64)
        online = b"" if self.online is None else self.online.to_bytes()
        arrays[_ONLINE] = np.frombuffer(online, dtype=np.uint8)
        self._snapshots.save(0, Snapshot(0, arrays, self.stage.maker))
        self._saved = self.positions

    def close(self) -> None:
        """Close the connections."""
        self._positions.close()
        if self.online is not None:
            self.online.close()

    def _load(self) -> None:
        snapshot = self._snapshots.load(0)
        if snapshot is None:
            return
        try:
            if snapshot.maker != self.stage.maker:
                raise StateError("the definition has changed")
            found = {number: self._restored(snapshot.arrays, number) for number in self._partitions}
            begins = dict(snapshot.arrays[_OUTPUT].tolist())
            if set(begins) != set(self._output_at):
                raise StateError("it follows other partitions")
            if self.online is not None:
                self.online.from_bytes(snapshot.arrays[_ONLINE].tobytes())
        except (StateError, KeyError, ValueError) as error:
            self._snapshots.discard(0, str(error))
            return
        self._partitions, self._output_at = found, begins
        self._saved = self.positions

    def _restored(self, arrays: Any, number: int) -> _Partition:
        prefix = f"{number}."
        own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        next_offset, labels, compared, different = own.pop(_META).tolist()
        return _Partition(self.stage.restore(own), next_offset, labels, compared, different)

    def _read_output(self, number: int, end: int) -> bool:
        """Read a partition of the output towards ``end``; return whether it was reached."""
        count, at = 0, self._output_at[number]
        for batch in self._read(self.stage.output, number, at, end):
            self._sort_in(batch)
            self._output_at[number] = batch.next_offset
            count += len(batch)
            if count >= PIECE and self._by_input and batch.next_offset < end:
                return False
        self._output_at[number] = max(at, end)
        return True

    def _sort_in(self, batch: LogBatch) -> None:
        """Put records to their events; judge at once those whose events were judged before."""
        topic, number = batch.topic, batch.partition
        is_last = self.stage.is_last  # it walks through the definition: not once per record
        for offset, value in zip(batch.offsets.tolist(), batch.values, strict=True):
            given = value or b"null"
            try:
                place = self._place(given)
                at = place.source if is_last else place.origin
                if at is None or at.partition not in self._records:
                    raise msgspec.ValidationError("it names no event of this pipeline")
            except msgspec.MsgspecError as error:
                self._differ(
                    number,
                    Difference("unreadable", topic, number, offset, "", "", str(error), ""),
                )
                continue
            if at.partition not in self._partitions and self._by_input:
                continue
            key = (number, at.partition)
            self._reach[key] = max(self._reach.get(key, -1), at.offset)
            records = self._records[at.partition]
            known = records.judged.get(at.offset)
            if known is not None:
                if known != given:
                    self._differ(number, difference_of(given, known, topic, number, at.offset))
            elif self._by_input and at.offset < self._partitions[at.partition].next_offset:
                self._differ(number, whole_record("unexpected", given, topic, number, at.offset))
            else:
                served = _Served(number, offset, given, place.labels)
                records.waiting.setdefault(at.offset, []).append(served)

    def _horizon(self, number: int, committed: int, read: dict[int, bool]) -> int:
        """Return up to which offset of the input everything served is known."""
        partition = self._partitions[number]
        horizon = min(committed, partition.next_offset + PIECE)
        outputs = [number] if self.stage.is_last else self._all
        for q in outputs:
            if not read[q]:  # in an output partition an input partition's records keep their order
                horizon = min(horizon, self._reach.get((q, number), -1))
        return horizon

    def _compute(self, number: int, partition: _Partition, horizon: int) -> None:
        """Compute up to ``horizon``, and compare."""
        records = self._records[number]
        for batch in self._read(self.stage.input, number, partition.next_offset, horizon):
            if self.stage.reads_labels:
                labels, seen = self._labels(number, partition, batch)
                processed = partition.engine.process(batch, labels, seen)
            else:
                processed = partition.engine.process(batch)
            partition.next_offset = batch.next_offset
            self._differ(number, *self._compare(partition, processed, batch))
            if self.online is not None:
                self.online.take(processed)
        partition.next_offset = horizon
        if self._by_input:
            for offset in [offset for offset in records.waiting if offset < horizon]:
                for served in records.waiting.pop(offset):
                    self._differ(
                        number,
                        whole_record(
                            "unexpected", served.value, self.stage.output, served.partition, offset
                        ),
                    )

    def _compare(
        self, partition: _Partition, processed: Processed, batch: LogBatch
    ) -> Iterator[Difference]:
        values, targets = self._output.of(processed, batch)
        partitions, offsets = self._output.identities(processed.rows)
        partition.compared += len(values)
        self.tally.rows(len(values), processed.rows.event_times_ms.tolist())
        topic = self.stage.output
        for value, target, origin, offset in zip(
            values, targets.tolist(), partitions.tolist(), offsets.tolist(), strict=True
        ):
            records = self._records[origin]
            served = records.waiting.pop(offset, None)
            if served is None:
                yield whole_record("missing", value, topic, target, offset)
                continue
            records.remember(offset, value)
            for one in served:
                if one.value != value:
                    yield difference_of(one.value, value, topic, one.partition, offset)
                elif one.partition != target:
                    yield whole_record("unexpected", value, topic, one.partition, offset)

    def _labels(
        self, number: int, partition: _Partition, batch: LogBatch
    ) -> tuple[LogBatch, NDArray[np.int64]]:
        """Return the labels that the served records say were applied, and where, (n,)."""
        waiting = self._records[number].waiting
        told = [
            max((served.labels for served in waiting.get(offset, ())), default=-1)
            for offset in batch.offsets.tolist()
        ]
        seen = np.maximum.accumulate(np.maximum(np.array(told, np.int64), partition.labels))
        topic = self.stage.topics.labels
        if len(seen) and seen[-1] > partition.labels:
            # A record that says more than there is was not made by the stage.
            seen = np.minimum(seen, self._ends(topic)[number])
        until = int(seen[-1]) if len(seen) else partition.labels
        parts = list(self._read(topic, number, partition.labels, until))
        partition.labels = until
        return _joined(topic, number, parts, until), seen

    def _read(self, topic: str, partition: int, first: int, end: int) -> Iterator[LogBatch]:
        for batch in read_ranges(self._bootstrap, topic, {partition: (first, end)}):
            beat()  # a first turn reads the whole log
            yield batch

    def _ends(self, topic: str) -> dict[int, int]:
        bounds = offset_bounds(self._bootstrap, topic, len(self._all))
        return {number: end for number, (_, end) in bounds.items()}

    def _differ(self, number: int, *differences: Difference) -> None:
        self.tally.differ(differences)
        if number in self._partitions:
            self._partitions[number].different += len(differences)


def _joined(topic: str, partition: int, parts: list[LogBatch], end: int) -> LogBatch:
    none = np.empty(0, dtype=np.int64)
    return LogBatch(
        topic=topic,
        partition=partition,
        offsets=np.concatenate([none, *(part.offsets for part in parts)]),
        timestamps_ms=np.concatenate([none, *(part.timestamps_ms for part in parts)]),
        keys=[key for part in parts for key in part.keys],
        values=[value for part in parts for value in part.values],
        next_offset=end,
    )
