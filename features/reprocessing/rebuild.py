"""Builds the features of a definition from the log, at full speed, beside what runs.

It is the feature worker's processor, fed by a reader that assigns itself the log in place of a
member of the group: the same engine, snapshots, topics and bytes. Its position is committed under
the definition's own groups, so the workers that follow go on where it ended. A definition of
several keys is built stage by stage, each to the end of its input.

What stands in a group's notes beside the committed offsets:

====================  ==========================================================================
(nothing)             built up to there, or followed live
``building``          built up to there, and not ready yet
``range 100-200``     the features topic holds the rows of this range of events only, to be
                      compared; the next build clears it
====================  ==========================================================================
"""

from __future__ import annotations

import asyncio
import fcntl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from features.definition import Definition
from features.processing.processor import SnapshotPolicy
from features.processing.stages import Stage, stages_of
from features.reprocessing.output import Failure
from features.reprocessing.reading import RebuildProgress, Throttle
from features.reprocessing.stage import StageBuild, StageJob
from streams.collector import rare_collections
from streams.errors import ConfigurationError, StateError
from streams.group_offsets import Committed, GroupOffsets, has_members
from streams.removal import clear_topic
from streams.stream import EventStream, LabelStream
from streams.topics import Topics

RANGE = "range"

LAST_PASS_S = 2.0
"""A pass over what came meanwhile that takes no longer is the last; the rest is the worker's."""

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
        labels: the labels, for a definition that uses them.
        online: whether the definition's views in the online store are filled too.
        partitions: those to build, of a definition with one key; all without it.
        ranges: emit only the rows of these events; their windows are made of all before them.
        rate: records per second and stage, at most.
        snapshots: when states are saved.
    """

    bootstrap: str
    topics: Topics
    definition: Definition
    events: EventStream
    home: Path
    labels: LabelStream | None = None
    online: bool = True
    partitions: tuple[int, ...] | None = None
    ranges: Ranges | None = None
    rate: float | None = None
    snapshots: SnapshotPolicy | None = None

    @property
    def stages(self) -> list[Stage]:
        """The stages, in the order in which they are built."""
        return stages_of(self.definition, self.events, self.labels, self.topics)


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a build did; ``complete`` where it was not stopped before the log's end.

    ``events`` were read by the first stage, ``rows`` emitted by the last; ``positions`` are the
    last stage's next offsets in its input.
    """

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
        ConfigurationError: a worker of the definition runs, or the job asks for what can't be.
        StateError: another build of the definition runs here, or the state fails.
        BrokerError: the broker fails; the next run goes on from the last committed offset.
    """
    with _alone(job.home, job.definition.version), rare_collections():
        return asyncio.run(_build(job, observe, stop))


async def _build(
    job: RebuildJob, observe: Callable[[RebuildProgress], None], stop: Callable[[], bool]
) -> RebuildReport:
    started_s, failure, throttle = time.perf_counter(), Failure(), Throttle(job.rate)
    await asyncio.to_thread(_prepare, job)
    async with AsyncExitStack() as stack:
        builds = [
            await stack.enter_async_context(_opened(job, stage, throttle, failure))
            for stage in job.stages
        ]
        passes = 0
        while True:
            passes += 1
            began_s = time.perf_counter()
            for build in builds:
                await build.run(passes, observe, stop)
            lasted_s = time.perf_counter() - began_s
            if stop() or job.ranges is not None or lasted_s < LAST_PASS_S:
                break
        complete = not stop()
        for build in builds:
            await build.finish(complete)
    return RebuildReport(
        builds[0].events,
        builds[-1].rows,
        passes,
        time.perf_counter() - started_s,
        complete,
        builds[-1].positions,
    )


@asynccontextmanager
async def _opened(
    job: RebuildJob, stage: Stage, throttle: Throttle, failure: Failure
) -> AsyncIterator[StageBuild]:
    part = StageJob(
        bootstrap=job.bootstrap,
        stage=stage,
        home=job.home,
        online=job.online and job.ranges is None,
        partitions=job.partitions,
        ranges=job.ranges if stage.is_last else None,
        snapshots=job.snapshots,
    )
    build = StageBuild(part, throttle, failure)
    try:
        await build.open()
        yield build
    finally:
        await build.close()


def _prepare(job: RebuildJob) -> None:
    """See that nobody else builds it, and that the features topic is as the build needs it."""
    stages, version = job.stages, job.definition.version
    for stage in stages:
        if has_members(job.bootstrap, stage.group):
            raise ConfigurationError(
                f"a feature worker of definition v{version} runs, and keeps its features up to "
                "date by itself; to build them anew, stop it first"
            )
    n = job.events.partitions
    if len(stages) > 1 and job.partitions is not None and len(job.partitions) < n:
        raise ConfigurationError(
            f"definition v{version} has the keys {', '.join(stages[0].keys)}, so an event's "
            "features come from several partitions: build all of them"
        )
    last = stages[-1]
    offsets = GroupOffsets(job.bootstrap, last.group, last.input)
    try:
        committed = offsets.read(n)
        in_part = [p for p, at in committed.items() if at.note.startswith(RANGE)]
        if job.ranges is not None and len(in_part) < len(committed):
            raise ConfigurationError(
                f"{last.output} is being built in whole, so rows of a range would stand there out "
                "of order: replay without a range, or take away what was built by kappa gc"
            )
        if in_part:
            clear_topic(job.bootstrap, last.output, n)
            offsets.commit(dict.fromkeys(in_part, Committed(0, "building")))
            structlog.get_logger().info("rows of an earlier range removed", topic=last.output)
        if job.ranges is not None:
            first = min(first for first, _ in job.ranges.values())
            end = max(end for _, end in job.ranges.values())
            offsets.commit(dict.fromkeys(range(n), Committed(0, f"{RANGE} {first}-{end}")))
    finally:
        offsets.close()


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
