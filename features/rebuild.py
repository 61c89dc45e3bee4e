"""Builds the features of a definition from the log, at full speed, beside what runs.

It is the feature worker's processor, fed by a reader that assigns itself the log in place of a
member of the group: the same engine, snapshots, topic and bytes. Its position is committed under
the definition's own group, so the worker that follows goes on where it ended.

What stands in a group's notes beside the committed offsets:

====================  ==========================================================================
(nothing)             built up to there, or followed live
``building``          built up to there, and not ready yet
``range 100-200``     the topic holds the rows of this range of events only, to be compared; the
                      next build clears it
====================  ==========================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import structlog

from features.definition import Definition
from features.emission import FeatureEmitter
from features.engine import Processed
from features.online import OnlineTable, store_folder
from features.online_writer import OnlineWriter
from features.processor import Emitter, FeatureProcessor, SnapshotPolicy
from features.rebuild_reading import (
    Meter,
    RebuildProgress,
    Throttle,
    nothing,
    read_ahead,
    stretches,
)
from features.records import FeatureCodec
from streams.batch_transport import Bounds, Fetched
from streams.clock import SystemClock
from streams.errors import ConfigurationError, StateError
from streams.group_offsets import Committed, GroupOffsets, group_members
from streams.removal import clear_topic
from streams.replay import offset_bounds, read_ranges
from streams.snapshots import Snapshot, SnapshotStore, log_identity
from streams.stream import EventStream
from streams.topics import Topics

T = TypeVar("T")

BUILDING = "building"
RANGE = "range"

LAST_PASS_S = 2.0
"""A pass over what came meanwhile that takes no longer is the last; the rest is the worker's."""
COMMIT_EVERY_S = 0.5
ONLINE_INTERVAL_S = 5.0
ONLINE_OPENS_WITHIN_S = 180.0

Ranges = Mapping[int, tuple[int, int]]
"""Partition → [first, end) of offsets in the events topic."""


@dataclass(frozen=True)
class RebuildJob:
    """What is to be built.

    Args:
        bootstrap: the brokers; the topics exist there.
        topics: their names, as the definition has them.
        definition: the features.
        events: the stream.
        home: folder of the pipeline's state on this machine.
        online: whether the definition's view in the online store is filled too.
        partitions: those to build; all without it.
        ranges: emit only the rows of these events; their windows are made of all before them.
        rate: events per second at most.
        snapshots: when states are saved.
    """

    bootstrap: str
    topics: Topics
    definition: Definition
    events: EventStream
    home: Path
    online: bool = True
    partitions: tuple[int, ...] | None = None
    ranges: Ranges | None = None
    rate: float | None = None
    snapshots: SnapshotPolicy | None = None


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a build did; ``complete`` where it was not stopped before the log's end."""

    events: int
    rows: int
    passes: int
    seconds: float
    complete: bool
    positions: Mapping[int, int]

    @property
    def events_per_s(self) -> float:
        """Events read, featurised and acknowledged, per second."""
        return self.events / self.seconds if self.seconds else 0.0


def run_rebuild(
    job: RebuildJob,
    observe: Callable[[RebuildProgress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> RebuildReport:
    """Build until the log's end as it stood when the last pass began, or until ``stop()``.

    Stopped, it saves and commits what it has, and the next run goes on there.

    Raises:
        ConfigurationError: a worker of the definition runs, or a range is asked for where more
            has been built.
        StateError: another build of the definition runs here, or the state fails.
        BrokerError: the broker fails; the next run goes on from the last committed offset.
    """
    with _alone(job.home, job.definition.version):
        return asyncio.run(_Rebuild(job, observe, stop).run())


class _Rebuild:
    """One run, from the group's position to the log's end."""

    def __init__(
        self,
        job: RebuildJob,
        observe: Callable[[RebuildProgress], None],
        stop: Callable[[], bool],
    ) -> None:
        self._job = job
        self._observe = observe
        self._stop = stop
        self._group = job.topics.group("features")
        self._throttle = Throttle(job.rate)
        self._done: dict[int, int] = {}
        self._committing = asyncio.Lock()
        self._log = structlog.get_logger().bind(group=self._group)

    async def run(self) -> RebuildReport:
        started_s = time.perf_counter()
        loop = asyncio.get_running_loop()
        self._loop, self._failure = loop, loop.create_future()
        self._offsets = GroupOffsets(self._job.bootstrap, self._group, self._job.topics.events)
        try:
            committed = await asyncio.to_thread(self._prepare)
            async with self._parts():
                await self._processor.assigned(await asyncio.to_thread(self._bounds, committed))
                committing = asyncio.create_task(self._commit_now_and_then())
                try:
                    passes = await self._passes()
                    complete = not self._stop()
                    await self._or_failure(self._finish(complete))
                finally:
                    committing.cancel()
            return RebuildReport(
                self._processor.events_seen,
                self._output.rows,
                passes,
                time.perf_counter() - started_s,
                complete,
                self._processor.positions,
            )
        finally:
            self._offsets.close()

    def _prepare(self) -> Mapping[int, Committed]:
        """Return where the group stands, after the topic is as the build needs it."""
        job = self._job
        if group_members(job.bootstrap, self._group):
            raise ConfigurationError(
                f"a feature worker of definition v{job.definition.version} runs, and keeps its "
                "features up to date by itself; to build them anew, stop it first"
            )
        committed = self._offsets.read(job.events.partitions)
        whole = {p: at for p, at in committed.items() if not at.note.startswith(RANGE)}
        if job.ranges is not None and whole:
            raise ConfigurationError(
                f"{job.topics.features} is being built in whole, so rows of a range would stand "
                "there out of order: replay without a range, or remove what was built by kappa gc"
            )
        if len(whole) < len(committed):
            clear_topic(job.bootstrap, job.topics.features, job.events.partitions)
            self._log.info("rows of an earlier range removed", topic=job.topics.features)
        self._note = BUILDING
        if whole and all(at.note == "" for at in whole.values()):
            self._note = ""  # it was ready before, and does not cease to be
        if job.ranges is not None:
            first = min(first for first, _ in job.ranges.values())
            end = max(end for _, end in job.ranges.values())
            self._offsets.commit(dict.fromkeys(job.ranges, 0), f"{RANGE} {first}-{end}")
        return whole

    @asynccontextmanager
    async def _parts(self) -> AsyncIterator[None]:
        job = self._job
        codec = FeatureCodec(job.definition, job.events)
        source = await asyncio.to_thread(log_identity, job.bootstrap, job.topics.events)
        folder = job.home / "snapshots" / f"features-v{job.definition.version}"
        kept = SnapshotStore if job.ranges is None else _Forgotten
        emitter = FeatureEmitter(job.bootstrap, job.topics, codec, SystemClock())
        self._output = _Rows(emitter)
        self._online = self._open_online() if job.online and job.ranges is None else None
        self._processor = FeatureProcessor(
            job.definition, job.events, self._output, kept(folder, source), self._take_done,
            self._fail, self._online, job.snapshots,
        )  # fmt: skip
        try:
            yield
        finally:
            if self._online is not None:
                self._online.close()
            emitter.close()

    def _open_online(self) -> OnlineWriter:
        job = self._job

        def open_table() -> OnlineTable:
            folder = store_folder(job.home)
            return OnlineTable(folder, job.topics.name, job.definition, job.events)

        writer = OnlineWriter(open_table, self._fail, ONLINE_INTERVAL_S)
        writer.start()
        return writer

    def _bounds(self, committed: Mapping[int, Committed]) -> dict[int, Bounds]:
        """Return the partitions to build, as a rebalance would give them."""
        job = self._job
        found = offset_bounds(job.bootstrap, job.topics.events, job.events.partitions)
        if job.ranges is not None:
            return {p: Bounds(job.ranges[p][0], *found[p]) for p in job.ranges}
        chosen = found if job.partitions is None else job.partitions
        at = {p: committed[p].offset if p in committed else None for p in chosen}
        return {p: Bounds(at[p], *found[p]) for p in chosen}

    async def _passes(self) -> int:
        """Go through the log, then through what came meanwhile, until that is little."""
        job, number = self._job, 0
        while True:
            number += 1
            bounds = await asyncio.to_thread(
                offset_bounds, job.bootstrap, job.topics.events, job.events.partitions
            )
            ends = {p: end for p, (_, end) in bounds.items()}
            if job.ranges is not None:
                ends = {p: min(end, job.ranges[p][1]) for p, end in ends.items() if p in job.ranges}
            began_s = time.perf_counter()
            await self._pass(number, ends)
            if (
                self._stop()
                or job.ranges is not None
                or time.perf_counter() - began_s < LAST_PASS_S
            ):
                return number

    async def _pass(self, number: int, ends: Mapping[int, int]) -> None:
        job, positions = self._job, self._processor.positions
        ranges = {p: (at, ends[p]) for p, at in sorted(positions.items()) if at < ends[p]}
        meter = Meter(number, sum(end - first for first, end in ranges.values()))
        for partition, (position, end) in ranges.items():
            stretch = {partition: (position, end)}
            reading = read_ahead(read_ranges(job.bootstrap, job.topics.events, stretch))
            async with contextlib.aclosing(reading) as batches:
                async for batch in batches:
                    for fetched in stretches(batch, position, self._throttle.piece):
                        await self._take(fetched, meter)
                        await self._throttle.take(len(fetched.batch))
                        if self._stop():
                            return
                    position = batch.next_offset
            if position < end:
                await self._take(nothing(job.topics.events, partition, position, end), meter)

    async def _take(self, fetched: Fetched, meter: Meter) -> None:
        await self._or_failure(self._processor.handle(fetched))
        self._observe(meter.moved(fetched))

    async def _finish(self, complete: bool) -> None:
        """Acknowledge, save and commit what is in hand; say so where it is ready."""
        if self._online is not None:
            deadline_s = time.monotonic() + ONLINE_OPENS_WITHIN_S
            while not await self._online.flushed() and time.monotonic() < deadline_s:
                await asyncio.sleep(0.05)  # Feast is still being imported
        await self._processor.close()
        if self._job.ranges is not None:
            return
        if complete:
            self._note = ""
            self._done.update(self._processor.positions)
        await self._commit()

    def _take_done(self, partition: int, next_offset: int) -> None:
        self._done[partition] = next_offset

    async def _commit_now_and_then(self) -> None:
        while self._job.ranges is None:
            await asyncio.sleep(COMMIT_EVERY_S)
            try:
                await self._commit()
            except Exception as error:
                self._fail(error)

    async def _commit(self) -> None:
        async with self._committing:
            done, self._done = self._done, {}
            await asyncio.to_thread(self._offsets.commit, done, self._note)

    async def _or_failure(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what ``work`` returns, or raise what went wrong elsewhere meanwhile."""
        task = asyncio.ensure_future(work)
        await asyncio.wait({task, self._failure}, return_when=asyncio.FIRST_COMPLETED)
        if self._failure.done():
            task.cancel()
            await asyncio.wait({task})
            self._failure.result()
        return task.result()

    def _fail(self, error: BaseException) -> None:
        """End the build; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._set_failure, error)

    def _set_failure(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)


@dataclass
class _Rows:
    """Emits rows, and no dead letters: who follows the log live has told of them."""

    emitter: Emitter
    rows: int = 0

    def emit(self, processed: Processed, traceparents: Mapping[int, bytes]) -> asyncio.Future[None]:
        self.rows += len(processed.rows)
        return self.emitter.emit(replace(processed, dead=[]), traceparents)


class _Forgotten(SnapshotStore):
    """Keeps nothing: a range is built from the beginning of the log, and not gone on with."""

    def save(self, partition: int, snapshot: Snapshot) -> None:
        """Do nothing."""

    def load(self, partition: int) -> Snapshot | None:  # noqa: ARG002 - as its base has it
        """Return None."""
        return None


@contextmanager
def _alone(home: Path, version: int) -> Iterator[None]:
    """Hold the definition's lock on this machine."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / f"replay-v{version}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(
                f"another replay is building definition v{version}: wait for it, or stop it"
            ) from None
        yield
