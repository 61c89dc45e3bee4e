"""One stage of a definition under construction: its state, its position, its way to the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from features.processing.emission import FeatureEmitter
from features.processing.processor import FeatureProcessor, SnapshotPolicy
from features.processing.stages import Stage, snapshot_store
from features.records import FeatureCodec
from features.reprocessing.merging import MergedRekeying
from features.reprocessing.output import Failure, NoSnapshots, Output
from features.reprocessing.reading import (
    Meter,
    RebuildProgress,
    Throttle,
    nothing,
    read_ahead,
    stretches,
)
from features.reprocessing.rounds import MergedReading
from features.store.table import OnlineTable, store_folder
from features.store.writer import OnlineWriter
from streams.batch_transport import Bounds, Fetched
from streams.clock import SystemClock
from streams.group_offsets import Committed, GroupOffsets
from streams.replay import offset_bounds, read_ranges
from streams.snapshots import SnapshotStore

T = TypeVar("T")

BUILDING = "building"

COMMIT_EVERY_S = 0.5
ONLINE_INTERVAL_S = 5.0
ONLINE_OPENS_WITHIN_S = 180.0


@dataclass(frozen=True)
class StageJob:
    """What :class:`features.reprocessing.rebuild.RebuildJob` means for one stage.

    ``ranges`` are of origins.
    """

    bootstrap: str
    stage: Stage
    home: Path
    online: bool
    partitions: tuple[int, ...] | None
    ranges: Mapping[int, tuple[int, int]] | None
    snapshots: SnapshotPolicy | None


class StageBuild:
    """One stage from its group's position to its input's end, as often as it is run."""

    def __init__(self, job: StageJob, throttle: Throttle, failure: Failure) -> None:
        self._job = job
        self._stage = job.stage
        self._partitions = job.stage.events.partitions
        self._throttle = throttle
        self._failure = failure
        self._offsets = GroupOffsets(job.bootstrap, job.stage.group, job.stage.input)
        self._done: dict[int, int] = {}
        self._ready: set[int] = set()
        self._committing = asyncio.Lock()
        self._committer: asyncio.Task[None] | None = None
        self._online: OnlineWriter | None = None
        self._merged: MergedReading | None = None

    @property
    def events(self) -> int:
        """Records of the input that were processed."""
        return self._processor.events_seen

    @property
    def rows(self) -> int:
        """Rows that were emitted."""
        return self._output.rows

    @property
    def positions(self) -> dict[int, int]:
        """Partition of the input → next offset."""
        return self._processor.positions

    async def open(self) -> None:
        """Load the state of each partition and find where to go on."""
        job, stage = self._job, self._stage
        committed = await asyncio.to_thread(self._offsets.read, self._partitions)
        kept: SnapshotStore = NoSnapshots(job.home, "")
        if job.ranges is None:
            kept = await asyncio.to_thread(snapshot_store, job.bootstrap, stage, job.home)
        self._emitter = _emitter(job.bootstrap, stage)
        self._output = Output(self._emitter, job.ranges)
        if job.online and (len(stage.keys) == 1 or stage.own_features):
            self._online = self._open_online()
        self._processor = FeatureProcessor(
            stage, self._output, kept, self._take_done, self._failure, self._online,
            job.snapshots, job.bootstrap, dead_letters=False,
        )  # fmt: skip
        await self._processor.assigned(await asyncio.to_thread(self._bounds, committed))
        self._ready = {p for p, at in committed.items() if at.note == ""}
        if isinstance(self._emitter, MergedRekeying):
            self._merged = MergedReading(job.bootstrap, stage, self._emitter)
        if job.ranges is None:
            self._committer = asyncio.create_task(self._commit_now_and_then())

    async def run(
        self, number: int, observe: Callable[[RebuildProgress], None], stop: Callable[[], bool]
    ) -> None:
        """Process up to the input's end as it stands now, or until ``stop()``."""
        stage = self._stage
        bounds = await asyncio.to_thread(
            offset_bounds, self._job.bootstrap, stage.input, self._partitions
        )
        stretch = {p: (at, self._end(p, bounds[p][1])) for p, at in sorted(self.positions.items())}
        stretch = {p: (first, end) for p, (first, end) in stretch.items() if first < end}
        meter = Meter(stage.role, number, sum(end - first for first, end in stretch.values()))
        if self._merged is not None:
            await self._merge(self._merged, stretch, meter, observe, stop)
        else:
            await self._one_by_one(stretch, meter, observe, stop)
        if not stage.is_last:
            await self._failure.or_result(self._output.acknowledged())  # the next stage's input

    async def finish(self, complete: bool) -> None:
        """Acknowledge, save and commit what is in hand; say so where it is ready."""
        if self._online is not None:
            deadline_s = time.monotonic() + ONLINE_OPENS_WITHIN_S
            while not await self._failure.or_result(self._online.flushed()):
                if time.monotonic() > deadline_s:
                    break
                await asyncio.sleep(0.05)  # Feast is still being imported
        await self._failure.or_result(self._processor.close())
        if self._committer is None:
            return
        self._committer.cancel()
        await asyncio.wait({self._committer})
        if complete:
            self._ready |= set(self.positions)
            self._done.update(self.positions)
        await self._commit()

    async def close(self) -> None:
        """Stop; what is not acknowledged by now is given up."""
        if self._committer is not None:
            self._committer.cancel()
            await asyncio.wait({self._committer})
        if self._online is not None:
            self._online.close()
        if hasattr(self, "_emitter"):
            self._emitter.close()
        self._offsets.close()

    async def _one_by_one(
        self,
        stretch: Mapping[int, tuple[int, int]],
        meter: Meter,
        observe: Callable[[RebuildProgress], None],
        stop: Callable[[], bool],
    ) -> None:
        """Process one partition after the other: their rows go to different partitions."""
        topic = self._stage.input
        for partition, (position, end) in stretch.items():
            reading = read_ahead(
                read_ranges(self._job.bootstrap, topic, {partition: (position, end)})
            )
            async with contextlib.aclosing(reading) as batches:
                async for batch in batches:
                    for fetched in stretches(batch, position, self._throttle.piece):
                        if stop():
                            return
                        await self._failure.or_result(self._processor.handle(fetched))
                        observe(meter.moved(fetched))
                        await self._throttle.take(len(fetched.batch))
                    position = batch.next_offset
            if position < end:
                rest = nothing(topic, partition, position, end)
                await self._failure.or_result(self._processor.handle(rest))

    async def _merge(
        self,
        reading: MergedReading,
        stretch: Mapping[int, tuple[int, int]],
        meter: Meter,
        observe: Callable[[RebuildProgress], None],
        stop: Callable[[], bool],
    ) -> None:
        """Process all partitions side by side: their rows are merged by time."""
        rounds = reading.rounds(stretch, self._throttle.piece)
        async with contextlib.aclosing(rounds):
            async for pieces in rounds:
                if stop():
                    return
                await self._failure.or_result(self._round(reading, pieces))
                for fetched in pieces:
                    observe(meter.moved(fetched))
                await self._throttle.take(sum(len(fetched.batch) for fetched in pieces))

    async def _round(self, reading: MergedReading, pieces: list[Fetched]) -> None:
        # Nothing of a round is acknowledged before all of it is merged and sent, so a piece that
        # waits for room must not hold up the next.
        taken = [asyncio.create_task(self._processor.handle(fetched)) for fetched in pieces]
        await reading.send()
        await asyncio.gather(*taken)

    def _end(self, partition: int, end: int) -> int:
        ranges = self._job.ranges
        if ranges is None or len(self._stage.keys) > 1:
            return end
        return min(end, ranges.get(partition, (0, 0))[1])

    def _bounds(self, committed: Mapping[int, Committed]) -> dict[int, Bounds]:
        """Return the partitions to build, as a rebalance would give them."""
        job = self._job
        found = offset_bounds(job.bootstrap, self._stage.input, self._partitions)
        partitions = list(job.partitions or range(self._partitions))
        if job.ranges is not None:
            committed = {}
            if len(self._stage.keys) == 1:
                partitions = [p for p in partitions if p in job.ranges]
        return {
            p: Bounds(committed[p].offset if p in committed else None, *found[p])
            for p in partitions
        }

    def _open_online(self) -> OnlineWriter:
        home, stage = self._job.home, self._stage

        def open_table() -> OnlineTable:
            return OnlineTable(
                store_folder(home),
                stage.topics.name,
                stage.definition,
                stage.events,
                entity=stage.key,
            )

        writer = OnlineWriter(open_table, self._failure, ONLINE_INTERVAL_S)
        writer.start()
        return writer

    def _take_done(self, partition: int, next_offset: int) -> None:
        self._done[partition] = next_offset

    async def _commit_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            try:
                await self._commit()
            except Exception as error:
                self._failure(error)

    async def _commit(self) -> None:
        async with self._committing:
            done, self._done = self._done, {}
            # What was ready before does not cease to be.
            notes = {p: "" if p in self._ready else BUILDING for p in done}
            positions = {p: Committed(at, notes[p]) for p, at in done.items()}
            await asyncio.to_thread(self._offsets.commit, positions)


def _emitter(bootstrap: str, stage: Stage) -> FeatureEmitter | MergedRekeying:
    if not stage.is_last:
        return MergedRekeying(bootstrap, stage)
    codec = FeatureCodec(stage.definition, stage.events, stage.labels)
    return FeatureEmitter(bootstrap, stage.topics, codec, SystemClock())
