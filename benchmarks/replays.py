"""Ours, in replay: a version built anew into its own topic, and features recomputed and compared.

    python -m benchmarks.replays build|compare SPEC NAME BOOTSTRAP HOME [--warm-up N]
        [--steady] [--partition P]

Each runs in a process of its own, which measures itself and prints a line of JSON.
"""

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from benchmarks.ours import ROOT, WARM_UP, Log, MeasuringError, environment, load
from benchmarks.peers.outcome import Rates
from infra.roles import stages_at
from streams.replay import offset_bounds
from streams.topics import ensure_topics

BUILT = 100  # the version that is built is the declared one plus this
Figures = dict[str, float]


def rebuilt(bootstrap: str, log: Log, home: Path) -> Rates:
    """Build the log's features again, under another version; every record is acknowledged.

    Measured after a quarter of the events, to the end: with the closing snapshots.
    """
    events = str(int(WARM_UP * log.events))
    return _run("build", log, bootstrap, home, "--warm-up", events)


def rebuilt_steadily(bootstrap: str, log: Log, home: Path, warm_up: int) -> Rates:
    """Do the same, measured from ``warm_up`` events on until the last batch is taken.

    The closing snapshots, whose cost is that of the state and not of the events, are left out.
    """
    return _run("build", log, bootstrap, home, "--warm-up", str(warm_up), "--steady")


def recomputed(bootstrap: str, log: Log, home: Path) -> Rates:
    """Recompute the log's features, and compare them with those of the live worker.

    The processor seconds are those of both, the clock's those of recomputing.
    """
    return _run("compare", log, bootstrap, home)


def recomputed_side_by_side(bootstrap: str, log: Log, home: Path, partitions: int) -> Rates:
    """Recompute the first partitions, a process for each, at the same time.

    By the clock the rates of the processes are added up; of a core, their mean.
    """
    with ThreadPoolExecutor(partitions) as pool:
        runs = pool.map(
            lambda p: _run("compare", log, bootstrap, home, "--partition", str(p)),
            range(partitions),
        )
        rates = list(runs)
    return Rates(fmean(rate.per_core for rate in rates), sum(rate.per_s for rate in rates))


def build(spec: str, name: str, bootstrap: str, home: Path, warm_up: int, steady: bool) -> Figures:
    """Build in this process, the online store left out; measured after the warm-up."""
    from features.reprocessing.reading import RebuildProgress
    from features.reprocessing.rebuild import RebuildJob, run_rebuild

    pipeline = load(spec, name)
    definition = replace(pipeline.features, version=pipeline.features.version + BUILT)
    topics = pipeline.topics_of(definition)
    ensure_topics(bootstrap, replace(pipeline, features=definition).topic_specs)
    seen: list[tuple[int, float, float]] = []  # when the measuring begins, and last

    def observe(progress: RebuildProgress) -> None:
        if progress.done >= warm_up:
            seen[1:] = [(progress.done, time.process_time(), time.perf_counter())]

    job = RebuildJob(
        bootstrap, topics, definition, pipeline.events, home / "built", pipeline.labels,
        online=False,
    )  # fmt: skip
    report = run_rebuild(job, observe)
    done, cpu_s, clock_s = seen[0]
    ended = report.events, time.process_time(), time.perf_counter()
    events, ended_cpu_s, ended_clock_s = seen[-1] if steady else ended
    return {
        "events": events - done,
        "cpu_s": ended_cpu_s - cpu_s,
        "wall_s": ended_clock_s - clock_s,
        "identical": report.complete,
    }


def compare(spec: str, name: str, bootstrap: str, partition: int | None) -> Figures:
    """Recompute and compare in this process, all or one partition; compiled code is there."""
    from features.engine.engine import warm_up
    from features.reprocessing.verify import Replay

    pipeline = load(spec, name)
    warm_up()
    what = bootstrap, pipeline.topics, pipeline.features, pipeline.events
    ranges = None
    if partition is not None:
        bounds = offset_bounds(bootstrap, pipeline.topics.events, pipeline.events.partitions)
        ranges = {partition: bounds[partition]}
    cpu_s = time.process_time()
    reports = [
        Replay(*what, labels=pipeline.labels, stage=stage.number).run(ranges)
        for stage in stages_at(pipeline, pipeline.topics)
    ]
    return {
        "events": reports[0].events,
        "cpu_s": time.process_time() - cpu_s,
        "wall_s": sum(report.compute_seconds for report in reports),
        "identical": all(report.identical for report in reports),
    }


def _run(kind: str, log: Log, bootstrap: str, home: Path, *options: str) -> Rates:
    command = [
        sys.executable, "-m", "benchmarks.replays", kind, log.spec, log.name, bootstrap, str(home),
        *options,
    ]  # fmt: skip
    ended = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    told = [line for line in ended.stdout.splitlines() if line.startswith('{"events"')]
    if not told:
        last = (ended.stderr.strip().splitlines() or ["without a word"])[-1]
        raise MeasuringError(f"the replay did not end in order: {last}")
    figures = json.loads(told[-1])
    if not figures["identical"]:
        raise MeasuringError("the replay differs from what was emitted live")
    return Rates(figures["events"] / figures["cpu_s"], figures["events"] / figures["wall_s"])


def main() -> None:
    """Replay a pipeline's log in this process and print the figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("kind", choices=("build", "compare"))
    for argument in ("spec", "name", "bootstrap"):
        parser.add_argument(argument)
    parser.add_argument("home", type=Path)
    parser.add_argument("--warm-up", type=int, default=0)
    parser.add_argument("--steady", action="store_true")
    parser.add_argument("--partition", type=int)
    options = parser.parse_args()
    what = options.spec, options.name, options.bootstrap
    if options.kind == "build":
        figures = build(*what, options.home, options.warm_up, options.steady)
    else:
        figures = compare(*what, options.partition)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
