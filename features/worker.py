"""The feature worker: a process of one stage, from events to features, until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import hashlib
import importlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from features.definition import Definition
from features.processing.aligned import AlignedReading
from features.processing.emission import FeatureEmitter
from features.processing.processor import FeatureProcessor, SnapshotPolicy
from features.processing.stages import Stage, snapshot_store, stages_of
from features.records import FeatureCodec
from features.reprocessing.merging import MergedRekeying
from features.store.table import OnlineTable, store_folder
from features.store.writer import OnlineWriter
from streams.batch_transport import BatchConsumer, Fetched, batch_app
from streams.clock import SystemClock
from streams.errors import BrokerError, StateError
from streams.stream import EventStream, LabelStream
from streams.topics import Topics
from streams.watchdog import Watchdog

STUCK_AFTER_S = 120.0
STOP_TIMEOUT_S = 20.0
_LOOK_EVERY_S = 5.0


@dataclass(frozen=True)
class FeatureJob:
    """What a feature worker works on.

    Args:
        bootstrap: the brokers; the pipeline's topics exist there.
        topics: their names.
        definition: the features.
        events: the stream.
        home: folder of the pipeline's state on this machine (snapshots, online store); several
            workers may share it.
        online: whether rows go to Feast's online store too.
        snapshots: when states are saved.
        labels: the labels, where features are made of them.
        stage: which stage of the definition it works at, by number; the last one without it.
        dead_letters: whether it tells of unusable events; of several definitions one does.
    """

    bootstrap: str
    topics: Topics
    definition: Definition
    events: EventStream
    home: Path
    online: bool = True
    snapshots: SnapshotPolicy | None = None
    labels: LabelStream | None = None
    stage: int | None = None
    dead_letters: bool = True

    @property
    def at(self) -> Stage:
        """The stage."""
        stages = stages_of(self.definition, self.events, self.labels, self.topics)
        return stages[-1 if self.stage is None else self.stage]


def run_features(job: FeatureJob) -> None:
    """Work until SIGTERM or SIGINT; then flush, commit, save and return.

    Raises:
        KappaError: the broker, the state or the online store fails. What was not acknowledged is
            not committed, and is done again by the next run.
    """
    asyncio.run(_FeatureWorker(job).run())


class _FeatureWorker:
    """The parts of a worker and their way from start to stop."""

    def __init__(self, job: FeatureJob) -> None:
        self._job, self._stage = job, job.at
        self._log = structlog.get_logger().bind(worker=self._stage.role, group=self._stage.group)

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop)
        watchdog = Watchdog(STUCK_AFTER_S)
        try:
            async with self._parts():
                self._log.info("feature worker started", topic=self._stage.input)
                watching = asyncio.create_task(self._look_after(watchdog))
                committing = asyncio.create_task(self._commit())
                await asyncio.wait(
                    [self._ended, watching, committing], return_when=asyncio.FIRST_COMPLETED
                )
                for task in (watching, committing):
                    if task.done():
                        task.result()
                    task.cancel()
                self._ended.result()
                await asyncio.wait_for(self._finish(), STOP_TIMEOUT_S)
        finally:
            watchdog.stop()

    @asynccontextmanager
    async def _parts(self) -> AsyncIterator[None]:
        job, home = self._job, self._job.home
        self._to_commit = asyncio.Event()
        stage = self._stage
        store = await asyncio.to_thread(snapshot_store, job.bootstrap, stage, home)
        emitter = stage_emitter(job.bootstrap, stage)
        online = self._open_online() if job.online and stage.has_view else None
        self._processor = FeatureProcessor(
            stage, emitter, store, self._done, self._fail, online, job.snapshots,
            job.bootstrap, job.dead_letters,
        )  # fmt: skip
        self._reading: FeatureProcessor | AlignedReading = self._processor
        if isinstance(emitter, MergedRekeying):
            self._reading = AlignedReading(self._processor, emitter, self._ends)
        with _worker_number(home / "workers" / stage.role) as instance:
            app = batch_app(
                job.bootstrap, stage.group, stage.input, self._reading, self._handle,
                home / "faust", instance,
            )  # fmt: skip
            app.loop = self._loop
            try:
                await app.start()
                self._app = app
                yield
            finally:
                if online is not None:
                    online.close()
                emitter.close()
                await self._stop_faust(app)

    def _open_online(self) -> OnlineWriter:
        writer = OnlineWriter(lambda: open_table(self._job.home, self._stage), self._fail)
        writer.start()
        return writer

    @property
    def _consumer(self) -> BatchConsumer:
        consumer: BatchConsumer = self._app.consumer
        return consumer

    async def _handle(self, fetched: Fetched) -> None:
        await self._reading.handle(fetched)

    async def _ends(self) -> dict[int, int]:
        return await self._consumer.ends()

    def _done(self, partition: int, next_offset: int) -> None:
        self._app.consumer.done(partition, next_offset)
        self._to_commit.set()

    async def _commit(self) -> None:
        while True:
            await self._to_commit.wait()
            self._to_commit.clear()
            await self._consumer.commit_done()

    async def _look_after(self, watchdog: Watchdog) -> None:
        """Beat while Faust is alive and the positions reach the ends or move."""
        before: dict[int, int] = {}
        while True:
            if self._app.crashed:
                raise BrokerError(f"Faust ended by itself: {self._app.crash_reason!r}")
            ends = await self._consumer.ends()
            positions = self._processor.positions
            behind = any(positions.get(p, 0) < end for p, end in ends.items())
            if not self._app.rebalancing and (not behind or positions != before):
                watchdog.beat()
            before = positions
            self._processor.save_idle()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _finish(self) -> None:
        """Acknowledge, save and commit what is in hand."""
        await self._reading.close()
        await self._consumer.commit_done()
        await self._consumer.leave_at_stop()
        self._log.info("feature worker stopped", positions=self._processor.positions)

    async def _stop_faust(self, app: Any) -> None:
        try:
            await asyncio.wait_for(app.stop(), STOP_TIMEOUT_S)
        except Exception as error:
            self._log.warning("Faust did not stop in order", why=repr(error))

    def _stop(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _fail(self, error: BaseException) -> None:
        """End the worker; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._set_failure, error)

    def _set_failure(self, error: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)


def stage_emitter(bootstrap: str, stage: Stage) -> FeatureEmitter | MergedRekeying:
    """Return what sends a stage's output away; call it where an event loop runs."""
    if not stage.is_last:
        return MergedRekeying(bootstrap, stage)
    codec = FeatureCodec(stage.definition, stage.events, stage.labels)
    return FeatureEmitter(bootstrap, stage.topics, codec, SystemClock())


def open_table(home: Path, stage: Stage) -> OnlineTable:
    """Return the view that a stage fills in the online store; may take seconds."""
    folder = store_folder(home)
    return OnlineTable(folder, stage.topics.name, stage.definition, stage.events, entity=stage.key)


@contextmanager
def _worker_number(folder: Path) -> Iterator[str]:
    """Yield a static name in the group: host, folder and the lowest number nobody holds.

    So a worker started after a crash takes the name and the partitions of the one before at once,
    in place of waiting until that one's session ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    for number in range(10_000):
        with (folder / f"{number}.lock").open("w") as file, contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield f"{socket.gethostname()}-{place}-{number}"
            return
    raise StateError(f"all numbers in {folder} are taken: are 10,000 workers running?")


def main() -> None:
    """Run a worker for a pipeline given as ``module:attribute``; what tests and benchmarks use."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("pipeline")
    parser.add_argument("bootstrap")
    parser.add_argument("home", type=Path)
    parser.add_argument("--name", help="of the pipeline, in place of the declared one")
    parser.add_argument("--no-online", action="store_true")
    parser.add_argument("--snapshot-every", type=int, default=SnapshotPolicy.every_records)
    parser.add_argument("--stage", type=int, help="by number; the last without it")
    options = parser.parse_args()
    module, _, attribute = options.pipeline.partition(":")
    pipeline = getattr(importlib.import_module(module), attribute or "pipeline")
    topics = Topics(options.name or pipeline.topics.name, pipeline.features.version)
    run_features(
        FeatureJob(
            options.bootstrap, topics, pipeline.features, pipeline.events, options.home,
            not options.no_online, SnapshotPolicy(every_records=options.snapshot_every),
            getattr(pipeline, "labels", None), options.stage,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
