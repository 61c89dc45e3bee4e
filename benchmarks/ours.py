"""Ours, live: the feature worker over a log that is filled, for any pipeline.

A pipeline is named as ``module:attribute``. The worker runs in a process of its own, and a core's
rate is events divided by the processor seconds (all threads) of that process.
"""

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from confluent_kafka.admin import AdminClient

from benchmarks.peers.outcome import Rates
from infra.roles import stages_at
from serving.pipeline import Pipeline
from streams.positions import PositionReader
from streams.topics import Topics, dead_letter_topic, ensure_topics

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 0.25  # of the events; compiling, importing and joining the group is not what is measured
TIMEOUT_S = 900.0
_POLL_S = 0.1


class MeasuringError(Exception):
    """A process of ours did not do what was to be measured; the text says why."""


@dataclass(frozen=True)
class Log:
    """A pipeline whose log is filled: what it is called there, and how many events it holds."""

    spec: str
    name: str
    events: int

    def pipeline(self) -> Pipeline:
        """Return the pipeline under that name."""
        return load(self.spec, self.name)


def load(spec: str, name: str) -> Pipeline:
    """Return the pipeline ``module:attribute`` under another name."""
    module, _, attribute = spec.partition(":")
    declared = getattr(importlib.import_module(module), attribute or "pipeline")
    if not isinstance(declared, Pipeline):
        raise SystemExit(f"{spec} is no Pipeline: name one as module:attribute")
    return replace(declared, name=name)


def fill(bootstrap: str, spec: str, data: Path, name: str, limit: int | None) -> Log:
    """Make the topics of a pipeline and fill them by its own reader of ``data``.

    ``limit`` is about how many records (events and labels) are taken at most.
    """
    from kappa.source import recordings_of
    from streams.producing import SourceProducer

    pipeline = load(spec, name)
    ensure_topics(bootstrap, pipeline.topic_specs)
    to, sent = SourceProducer(bootstrap, pipeline.topics), 0
    for recording in recordings_of(pipeline, data):
        to.send(recording)
        sent += len(recording)
        if limit is not None and sent >= limit:
            break
    return Log(spec, name, to.flush().events)


def live(bootstrap: str, log: Log, home: Path) -> Rates:
    """Run a feature worker for each stage, features emitted and the online store written."""
    pipeline = log.pipeline()
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                worker(log.spec, bootstrap, log.name, home, "--stage", str(stage.number))
            )
            for stage in stages_at(pipeline, pipeline.topics)
        ]
        progress = Progress(bootstrap, pipeline)
        stack.callback(progress.close)
        return watch(processes, progress, log.events, home)


@contextmanager
def worker(
    spec: str, bootstrap: str, name: str, home: Path, *options: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a feature worker; its log is ``home / "worker.log"``."""
    home.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "features.worker", spec, bootstrap, str(home), "--name", name,
        *options,
    ]  # fmt: skip
    with (home / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Progress:
    """How many events of a pipeline are done: committed, and their features acknowledged."""

    def __init__(self, bootstrap: str, pipeline: Pipeline) -> None:
        self._reader = PositionReader(bootstrap)
        self._groups = AdminClient({"bootstrap.servers": bootstrap})
        self._partitions = pipeline.events.partitions
        self._topics: Topics = pipeline.topics
        dead = dead_letter_topic(self._topics.events)
        self._ends = {self._topics.features: self._partitions, dead: 1}
        self._last = stages_at(pipeline, pipeline.topics)[-1]

    def by_partition(self) -> dict[int, int]:
        """Return partition → records of its input that the last stage has committed."""
        return self._reader.committed(self._last.group).get(self._last.input, {})

    def done(self) -> int:
        """Return how many events are done."""
        ends = self._reader.ends(self._ends)
        emitted = sum(sum(by_partition.values()) for by_partition in ends.values())
        return min(emitted, sum(self.by_partition().values()))

    def ends(self) -> dict[int, int]:
        """Return partition → where the events end."""
        return self._reader.ends({self._topics.events: self._partitions})[self._topics.events]

    def members(self) -> int:
        """Return how many workers have a partition."""
        group = self._topics.group("features")
        described = self._groups.describe_consumer_groups([group])[group].result()
        return sum(bool(m.assignment.topic_partitions) for m in described.members)

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()


def watch(
    processes: list["subprocess.Popen[bytes]"],
    progress: Progress,
    events: int,
    home: Path,
    warm_up: int | None = None,
) -> Rates:
    """Wait until all events are done; return the rates after ``warm_up`` of them.

    Raises:
        MeasuringError: a worker ended, or it takes too long, or there was nothing to measure.
    """
    warm_up = int(WARM_UP * events) if warm_up is None else warm_up
    deadline = time.monotonic() + TIMEOUT_S
    began: tuple[int, float, float] | None = None
    while True:
        if any(process.poll() is not None for process in processes):
            raise MeasuringError(last_words(home))
        if time.monotonic() > deadline:
            raise MeasuringError(
                f"not done within {TIMEOUT_S:.0f} s: {progress.done()} of {events}"
            )
        now = (progress.done(), cpu_s(processes), time.perf_counter())
        if began is None and now[0] >= warm_up:
            began = now
        if now[0] >= events:
            break
        time.sleep(_POLL_S)
    if began is None or now[1] <= began[1]:  # the system counts processor time in hundredths
        raise MeasuringError("too few events to measure: take more --events")
    return Rates(
        (now[0] - began[0]) / (now[1] - began[1]), (now[0] - began[0]) / (now[2] - began[2])
    )


def last_words(home: Path) -> str:
    """Return the last line that a worker wrote to its log."""
    lines = [line.strip() for line in (home / "worker.log").read_text().splitlines()]
    return next((line for line in reversed(lines) if line), "the worker ended without a word")


def cpu_s(processes: list["subprocess.Popen[bytes]"]) -> float:
    """Return the processor seconds that the processes have used so far."""
    times = [psutil.Process(process.pid).cpu_times() for process in processes]
    return sum(t.user + t.system for t in times)


def environment() -> dict[str, str]:
    """Return the environment of a process that finds the project's packages."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}
