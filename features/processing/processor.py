"""What the feature worker does with the partitions it has: state, emission, commits, snapshots.

The way of a batch:

1. cut off what the state has already seen (a stretch fetched again after a rebalance),
2. let the engine take it: the state moves; a stage that reads labels too first takes those that
   stand before the batch's records,
3. queue the rows from the group's committed offset on (those before it were emitted by an earlier
   run; they only rebuild the state),
4. when the broker has acknowledged the rows of this and all earlier batches: the offset is done,
   and is committed at once,
5. from time to time, save the state of a moment whose rows are acknowledged.

So a crash anywhere repeats the same bytes under the same source offsets, and loses nothing. That
holds for the order of two logs too, since it is read back from the records emitted before.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from features.engine.engine import FeatureEngine, Processed
from features.processing.label_reading import OUTPUT_FROM, PartitionLabels, open_labels
from features.processing.selection import from_offset, trim
from features.processing.stages import Stage
from features.records import FeatureRows
from streams import hops, tracing
from streams.batch import LogBatch
from streams.batch_transport import Bounds, Fetched
from streams.errors import DefinitionError, StateError
from streams.snapshots import Snapshot, SnapshotStore
from streams.tracing import Spans

MAX_UNACKNOWLEDGED = 50_000
"""Records queued at the producer beyond which the worker takes no further batch."""


class Emitter(Protocol):
    """Sends rows and dead letters away; the future is set when the broker has them."""

    def emit(
        self, processed: Processed, traceparents: Mapping[int, bytes], batch: LogBatch
    ) -> asyncio.Future[None]:
        """Queue the output; ``batch`` is what it was made of."""
        ...


class OnlineSink(Protocol):
    """Takes rows for the online store."""

    def offer(self, rows: FeatureRows) -> None:
        """Take rows; never blocks."""
        ...

    async def flushed(self) -> bool:
        """Return when all that was offered before is stored; False where it can't be waited for."""
        ...

    def forget(self) -> None:
        """Another worker may write from now on: believe nothing about the store's content."""
        ...


@dataclass(frozen=True)
class SnapshotPolicy:
    """When the state of a partition is saved: by whichever comes first, and at a clean stop."""

    every_s: float = 30.0
    every_records: int = 1_000_000


@dataclass
class _Partition:
    engine: FeatureEngine
    next_offset: int  # the state holds all records before it
    emit_from: int  # rows before it stand in the features topic already
    saved_offset: int  # where the last snapshot stands
    labels: PartitionLabels | None = None
    saved_at: float = field(default_factory=time.monotonic)
    saving: asyncio.Task[None] | None = None
    waiting: deque[tuple[asyncio.Future[None], int, int]] = field(default_factory=deque)


class FeatureProcessor:
    """Owns the partitions of a feature worker; an owner as :mod:`streams.batch_transport` asks.

    Args:
        stage: which records it reads, and what it makes of them.
        emitter: where rows go.
        snapshots: where states are kept.
        done: called with (partition, next offset) when all before it is acknowledged.
        fail: called with whatever goes wrong; must end the process.
        online: takes the rows for the online store too.
        policy: when to save snapshots.
        bootstrap: the brokers, for a stage that reads labels.
        dead_letters: whether unusable records are told of; where several definitions read the same
            events one of them does.
    """

    def __init__(
        self,
        stage: Stage,
        emitter: Emitter,
        snapshots: SnapshotStore,
        done: Callable[[int, int], None],
        fail: Callable[[BaseException], None],
        online: OnlineSink | None = None,
        policy: SnapshotPolicy | None = None,
        bootstrap: str | None = None,
        dead_letters: bool = True,
    ) -> None:
        if stage.reads_labels and bootstrap is None:
            raise TypeError(f"stage {stage.number} reads labels: it needs the brokers' address")
        self._stage = stage
        self._bootstrap = bootstrap or ""
        self._dead_letters = dead_letters
        self._emitter = emitter
        self._snapshots = snapshots
        self._done = done
        self._fail = fail
        self._online = online
        self._policy = policy or SnapshotPolicy()
        self._maker = stage.maker
        self._partitions: dict[int, _Partition] = {}
        self._lock = asyncio.Lock()
        self._unacknowledged = 0
        self._room = asyncio.Event()
        self._room.set()
        self.events_seen = 0

    @property
    def positions(self) -> dict[int, int]:
        """Partition → next offset that its state waits for."""
        return {number: p.next_offset for number, p in self._partitions.items()}

    async def assigned(self, partitions: Mapping[int, Bounds]) -> Mapping[int, int]:
        """Load what is new, and say from where each partition is read."""
        async with self._lock:
            with self._failing():
                for number, bounds in partitions.items():
                    if number not in self._partitions:
                        opened = await asyncio.to_thread(self._open, number, bounds)
                        self._partitions[number] = opened
                        if opened.emit_from > (bounds.committed or 0):
                            self._done(number, opened.emit_from)  # that commit came not through
            return {number: self._partitions[number].next_offset for number in partitions}

    async def revoked(self, partitions: set[int]) -> None:
        """Wait for the acknowledgements, save, and drop the state."""
        async with self._lock:
            with self._failing():
                await self._settle(partitions)
            for number in partitions:
                gone = self._partitions.pop(number, None)
                if gone is not None and gone.labels is not None:
                    gone.labels.close()
            if self._online is not None:
                self._online.forget()

    async def close(self) -> None:
        """Take no further batch; wait for the acknowledgements and save all."""
        await self._lock.acquire()  # for good
        await self._settle(set(self._partitions))
        for partition in self._partitions.values():
            if partition.labels is not None:
                partition.labels.close()

    async def handle(self, fetched: Fetched) -> None:
        """Take the next stretch of a partition."""
        async with self._lock:
            with contextlib.suppress(Exception), self._failing():
                await self._take(fetched)
        await self._room.wait()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Report a failure to who ends the process; Faust would log it and go on."""
        try:
            yield
        except Exception as error:
            self._fail(error)
            raise

    async def _take(self, fetched: Fetched) -> None:
        number = fetched.batch.partition
        partition = self._partitions.get(number)
        if partition is None or fetched.batch.next_offset <= partition.next_offset:
            return  # revoked meanwhile, or seen
        if fetched.start_offset > partition.next_offset:
            raise StateError(
                f"{fetched.batch.topic} partition {number} goes on at {fetched.start_offset}, but "
                f"the state stands at {partition.next_offset}: records between were skipped or "
                "deleted. Started again, the worker reads from its snapshot"
            )
        began_s, batch = time.monotonic(), trim(fetched.batch, partition.next_offset)
        spans = tracing.begun(batch.topic, number, self._stage.group, fetched.traceparents)
        if partition.labels is None:
            processed = partition.engine.process(batch)
        else:
            labels, seen = await asyncio.to_thread(partition.labels.take, batch)
            processed = partition.engine.process(batch, labels, seen)
        if self._online is not None:
            self._online.offer(online_rows(self._stage, processed))
        processed = from_offset(processed, partition.emit_from)
        if not self._dead_letters:
            processed = replace(processed, dead=[])
        onward = fetched.traceparents if spans is None else spans.onward
        receipt = self._emitter.emit(processed, onward, batch)
        self._note(began_s, batch, processed, receipt, spans)
        partition.next_offset = batch.next_offset
        self.events_seen += len(batch)
        self._expect(number, partition, receipt, len(processed.rows))
        self._maybe_save(number, partition)

    def _note(
        self,
        began_s: float,
        batch: LogBatch,
        processed: Processed,
        receipt: asyncio.Future[None],
        spans: Spans | None,
    ) -> None:
        """Count what passes; how long it took until the broker had it is known later."""
        hops.count(batch.topic, len(batch))
        hops.count(self._stage.output, len(processed.rows))
        for letter_topic, n in Counter(dead.topic for dead in processed.dead).items():
            hops.count_dead(letter_topic, n)

        def note(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and done.exception() is None:
                took_ms = (time.monotonic() - began_s) * 1000
                hops.note_batch("features", took_ms, len(processed.rows))
                if spans is not None:
                    failed = {d.offset: d.error for d in processed.dead if d.topic == batch.topic}
                    spans.end(processed.rows.source_offsets.tolist(), failed)

        receipt.add_done_callback(note)

    def _expect(
        self, number: int, partition: _Partition, receipt: asyncio.Future[None], rows: int
    ) -> None:
        partition.waiting.append((receipt, partition.next_offset, rows))
        self._unacknowledged += rows
        if self._unacknowledged > MAX_UNACKNOWLEDGED:
            self._room.clear()
        receipt.add_done_callback(lambda _: self._acknowledge(number, partition))

    def _acknowledge(self, number: int, partition: _Partition) -> None:
        """Move the done offset over all batches that are acknowledged without a gap."""
        done = None
        while partition.waiting and partition.waiting[0][0].done():
            receipt, next_offset, rows = partition.waiting[0]
            error = receipt.exception()
            if error is not None:
                self._fail(error)
                return  # it stays at the head, so nothing behind it is ever done
            partition.waiting.popleft()
            self._unacknowledged -= rows
            done = next_offset
        if self._unacknowledged <= MAX_UNACKNOWLEDGED:
            self._room.set()
        if done is not None and done > partition.emit_from:
            self._done(number, done)

    def _open(self, number: int, bounds: Bounds) -> _Partition:
        log = structlog.get_logger().bind(partition=number)
        snapshot = self._snapshots.load(number)
        if snapshot is not None and not bounds.first <= snapshot.next_offset <= bounds.end:
            self._snapshots.discard(
                number,
                f"it stands at {snapshot.next_offset}, and the log holds "
                f"[{bounds.first}, {bounds.end})",
            )
            snapshot = None
        engine = self._restore(number, snapshot) if snapshot else None
        if snapshot is None or engine is None:
            snapshot, engine = None, self._stage.engine()
            start, emitted = bounds.first, 0
        else:
            start = emitted = snapshot.next_offset  # saved once all before it was acknowledged
        emit_from = max(bounds.committed or 0, emitted)
        opened = _Partition(engine, start, emit_from, start)
        if self._stage.reads_labels:
            arrays = snapshot.arrays if snapshot else None
            opened.labels = open_labels(
                self._bootstrap, self._stage, number, start, engine.label_offset, arrays
            )
        log.info("partition opened", state_from=start, emit_from=emit_from, end=bounds.end)
        return opened

    def _restore(self, number: int, snapshot: Snapshot) -> FeatureEngine | None:
        if snapshot.maker != self._maker:
            raise DefinitionError(
                f"definition v{self._stage.definition.version} is not what it was when partition "
                f"{number} was last processed: the features topic would mix two definitions. "
                f"Give the changed one version {self._stage.definition.version + 1}"
            )
        try:
            if self._stage.reads_labels and OUTPUT_FROM not in snapshot.arrays:
                raise StateError("it does not say where the output stood")
            return self._stage.restore(snapshot.arrays)
        except StateError as error:
            self._snapshots.discard(number, str(error))
            return None

    def _maybe_save(self, number: int, partition: _Partition) -> None:
        records = partition.next_offset - partition.saved_offset
        elapsed_s = time.monotonic() - partition.saved_at
        due = records >= self._policy.every_records or elapsed_s >= self._policy.every_s
        if due and (partition.saving is None or partition.saving.done()):
            partition.saving = self._spawn(self._save(number, partition))

    def save_idle(self) -> None:
        """Save what is due although no batch comes; called now and then."""
        for number, partition in self._partitions.items():
            if partition.next_offset > partition.saved_offset:
                self._maybe_save(number, partition)

    async def _save(self, number: int, partition: _Partition) -> None:
        """Copy the state now, and save it once all that it has emitted is acknowledged."""
        labels = partition.labels
        ends = None if labels is None else await asyncio.to_thread(labels.output_ends)
        offset, arrays = partition.next_offset, partition.engine.snapshot()
        if labels is not None and ends is not None:
            arrays[OUTPUT_FROM] = labels.begins(offset, ends)
        await asyncio.gather(*(asyncio.shield(receipt) for receipt, _, _ in partition.waiting))
        if self._online is not None and not await self._online.flushed():
            return  # a snapshot promises that the online store has all before it
        snapshot = Snapshot(offset, arrays, self._maker)
        await asyncio.to_thread(self._snapshots.save, number, snapshot)
        partition.saved_offset, partition.saved_at = offset, time.monotonic()

    async def _settle(self, numbers: set[int]) -> None:
        """Wait until all that these partitions have in hand is acknowledged and saved."""
        partitions = [(n, self._partitions[n]) for n in sorted(numbers & set(self._partitions))]
        for _, partition in partitions:
            while partition.waiting:
                await asyncio.gather(*(receipt for receipt, _, _ in partition.waiting))
                await asyncio.sleep(0)
            if partition.saving is not None:
                await partition.saving
        await asyncio.gather(
            *(
                self._save(number, partition)
                for number, partition in partitions
                if partition.next_offset != partition.saved_offset
            )
        )

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._check)
        return task

    def _check(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)


def online_rows(stage: Stage, processed: Processed) -> FeatureRows:
    """Return the rows under the stage's own entities, with what its view in the online store has.

    A complete row has all; of the rows on their way to the next stage only what this one made.
    """
    rows = replace(processed.rows, entities=processed.stage_entities)
    if stage.is_last or stage.number == 0:
        return rows
    columns: NDArray[Any] = np.array(stage.own_columns, dtype=np.int64)
    return replace(rows, numeric=rows.numeric[:, columns])
