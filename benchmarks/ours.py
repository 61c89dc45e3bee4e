"""Ours, measured: the live worker beside its broker, and a replay, for any pipeline.

A pipeline is named as ``module:attribute``. Each runs in a process of its own, and a core's rate
is events divided by the processor seconds (all threads) of that process.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from benchmarks.peers.outcome import Rates
from serving.pipeline import Pipeline
from streams.positions import PositionReader
from streams.topics import Topics, dead_letter_topic, ensure_topics

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 0.25  # of the events; compiling, importing and joining the group is not what is measured
TIMEOUT_S = 900.0
_POLL_S = 0.05


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
    """Run the feature worker over the log, features emitted and the online store written."""
    with worker(log.spec, bootstrap, log.name, home) as process:
        progress = Progress(bootstrap, log.pipeline())
        try:
            return watch([process], progress, log.events, home)
        finally:
            progress.close()


def replayed(bootstrap: str, log: Log) -> Rates:
    """Recompute the log's features in a fresh process; says so if they differ from the live ones.

    The one place to change where another kind of replay is to be measured.
    """
    command = [sys.executable, "-m", "benchmarks.ours", log.spec, log.name, bootstrap]
    ended = subprocess.run(
        command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False
    )
    told = [line for line in ended.stdout.splitlines() if line.startswith('{"events"')]
    if not told:
        raise SystemExit(f"the replay did not end in order:\n{ended.stderr[-3000:]}")
    figures = json.loads(told[-1])
    if not figures["identical"]:
        raise SystemExit("the replay differs from what was emitted live")
    return Rates(figures["events"] / figures["cpu_s"], figures["events"] / figures["wall_s"])


def replay_here(spec: str, name: str, bootstrap: str) -> dict[str, float]:
    """Replay in this process: features computed, encoded, and compared byte for byte."""
    from features.engine import warm_up
    from features.verify import Replay

    pipeline = load(spec, name)
    warm_up()
    replay = Replay(bootstrap, pipeline.topics, pipeline.features, pipeline.events)
    cpu_s = time.process_time()
    report = replay.run()
    return {
        "events": report.events,
        "cpu_s": time.process_time() - cpu_s,  # comparing included
        "wall_s": report.compute_seconds,
        "identical": report.identical,
    }


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
        process = subprocess.Popen(command, cwd=ROOT, env=_environment(), stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Progress:
    """How many events of a pipeline are done: committed, and their features acknowledged."""

    def __init__(self, bootstrap: str, pipeline: Pipeline) -> None:
        self._reader = PositionReader(bootstrap)
        self._topics: Topics = pipeline.topics
        dead = dead_letter_topic(self._topics.events)
        self._ends = {self._topics.features: pipeline.events.partitions, dead: 1}

    def by_partition(self) -> dict[int, int]:
        """Return partition → events committed."""
        group = self._topics.group("features")
        return self._reader.committed(group).get(self._topics.events, {})

    def done(self) -> int:
        """Return how many events are done."""
        ends = self._reader.ends(self._ends)
        emitted = sum(sum(by_partition.values()) for by_partition in ends.values())
        return min(emitted, sum(self.by_partition().values()))

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()


def watch(
    processes: list["subprocess.Popen[bytes]"], progress: Progress, events: int, home: Path
) -> Rates:
    """Wait until all events are done; return the rates after the warm-up."""
    deadline = time.monotonic() + TIMEOUT_S
    began: tuple[int, float, float] | None = None
    while True:
        if any(process.poll() is not None for process in processes):
            raise SystemExit((home / "worker.log").read_text()[-3000:])
        if time.monotonic() > deadline:
            raise SystemExit(f"not done within {TIMEOUT_S:.0f} s: {progress.done()} of {events}")
        now = (progress.done(), cpu_s(processes), time.perf_counter())
        if began is None and now[0] >= WARM_UP * events:
            began = now
        if now[0] >= events:
            break
        time.sleep(_POLL_S)
    if began is None or began[0] == now[0]:
        raise SystemExit("too few events to measure: take more --events")
    return Rates(
        (now[0] - began[0]) / (now[1] - began[1]), (now[0] - began[0]) / (now[2] - began[2])
    )


def cpu_s(processes: list["subprocess.Popen[bytes]"]) -> float:
    """Return the processor seconds that the processes have used so far."""
    times = [psutil.Process(process.pid).cpu_times() for process in processes]
    return sum(t.user + t.system for t in times)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def main() -> None:
    """Replay a pipeline's log and print the figures; what :func:`replayed` runs."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    for argument in ("spec", "name", "bootstrap"):
        parser.add_argument(argument)
    options = parser.parse_args()
    print(json.dumps(replay_here(options.spec, options.name, options.bootstrap)))


if __name__ == "__main__":
    main()
