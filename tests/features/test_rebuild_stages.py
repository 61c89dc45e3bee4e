"""A definition of two keys and of labels, built from the log: in the order of time, whatever."""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import msgspec
import numpy as np
import pytest

from features.processing.processor import SnapshotPolicy
from features.reprocessing.reading import RebuildProgress
from features.reprocessing.rebuild import RebuildJob, run_rebuild
from features.reprocessing.verify import Replay
from streams.errors import ConfigurationError
from streams.replay import offset_bounds, read_ranges
from tests.features import shops
from tests.features.shops import PARTITIONS, prepared, send, stage_worker, wait_drained

pytestmark = [
    pytest.mark.broker,
    # kafka-python 3 leaves the self-pipe of a closed administration client to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def log(first: int, n: int) -> shops.Log:
    """Payments in bursts of the same time, and some recorded long before or after."""
    rng = np.random.default_rng(first + 1)
    shifts = rng.choice([0, 0, 0, 0, 2_000, -40_000], n).tolist()
    records = shops.payments(first, n)
    return [
        (key, value, (at + shift) // 5_000 * 5_000)
        for (key, value, at), shift in zip(records, shifts, strict=True)
    ]


def job_of(bootstrap: str, home: Path) -> RebuildJob:
    """A pipeline of its own with the same log as all others here."""
    declared = shops.with_verdicts
    first, _ = prepared(bootstrap, f"t{uuid4().hex[:8]}", declared)
    send(bootstrap, first.topics.events, log(0, 1500))
    send(bootstrap, first.topics.labels, shops.verdicts(0, 1400))
    return RebuildJob(
        bootstrap, first.topics, declared.features, declared.events, home,
        labels=declared.labels, online=False,
    )  # fmt: skip


@pytest.fixture
def job(bootstrap: str, tmp_path: Path) -> RebuildJob:
    return job_of(bootstrap, tmp_path / "one")


def stop_after(events: int) -> tuple[Callable[[RebuildProgress], None], Callable[[], bool]]:
    """Return an observer and a stop that comes once so many records are done by a stage."""
    seen = [0]
    return lambda progress: seen.__setitem__(0, progress.done), lambda: seen[0] >= events


def values(job: RebuildJob, topic: str) -> list[list[bytes]]:
    """Return the values per partition, in log order."""
    found: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
    for batch in read_ranges(job.bootstrap, topic, offset_bounds(job.bootstrap, topic, PARTITIONS)):
        found[batch.partition] += [value or b"" for value in batch.values]
    return found


def origins(job: RebuildJob, topic: str) -> list[list[tuple[int, int]]]:
    decoded = [[msgspec.json.decode(value) for value in part] for part in values(job, topic)]
    return [[(r["origin"]["partition"], r["origin"]["offset"]) for r in part] for part in decoded]


def merged(job: RebuildJob) -> list[tuple[int, int]]:
    """Return all (partition, offset) of the events topic as a heap merges them, one by one."""
    logs: list[list[tuple[int, int, int]]] = []
    bounds = offset_bounds(job.bootstrap, job.topics.events, PARTITIONS)
    for partition in range(PARTITIONS):
        stretch = {partition: bounds[partition]}
        records = [
            (at_ms, offset)
            for batch in read_ranges(job.bootstrap, job.topics.events, stretch)
            for at_ms, offset in zip(
                batch.timestamps_ms.tolist(), batch.offsets.tolist(), strict=True
            )
        ]
        newest = itertools.accumulate((at_ms for at_ms, _ in records), max)
        logs.append([(at_ms, partition, o) for at_ms, (_, o) in zip(newest, records, strict=True)])
    return [(partition, offset) for _, partition, offset in heapq.merge(*logs)]


def test_the_re_keyed_log_stands_in_the_order_of_time(job: RebuildJob) -> None:
    report = run_rebuild(job)
    assert report.complete
    assert (report.events, report.rows) == (1500, 1500 - 30)
    order = {place: number for number, place in enumerate(merged(job))}
    for part in origins(job, job.topics.rekeyed("shop")):
        numbers = [order[place] for place in part]
        assert len(numbers) > 300
        assert numbers == sorted(numbers)
    told = Replay(
        job.bootstrap, job.topics, job.definition, job.events, labels=job.labels, stage=1
    ).run()
    assert told.identical, told.mismatches


def test_stopped_and_resumed_both_logs_are_the_same_bytes(
    job: RebuildJob, bootstrap: str, tmp_path: Path
) -> None:
    other = job_of(bootstrap, tmp_path / "other")
    run_rebuild(job)
    pieces = replace(other, rate=2000.0, snapshots=SnapshotPolicy(every_records=100))
    stops = 0
    for limit in (300, 500, 600, 500, 500):
        stops += not run_rebuild(pieces, *stop_after(limit)).complete
    assert stops >= 4
    assert run_rebuild(other).complete
    for topic, theirs in (
        (job.topics.rekeyed("shop"), other.topics.rekeyed("shop")),
        (job.topics.features, other.topics.features),
    ):
        assert values(job, topic) == values(other, theirs)


def test_workers_go_on_where_it_ended(job: RebuildJob, tmp_path: Path) -> None:
    assert run_rebuild(job).complete
    stages = job.stages
    send(job.bootstrap, job.topics.labels, shops.verdicts(1400, 300))
    send(job.bootstrap, job.topics.events, log(1500, 300))
    with (
        stage_worker(job.bootstrap, stages[0], "with_verdicts", job.home) as one,
        stage_worker(job.bootstrap, stages[1], "with_verdicts", job.home) as two,
    ):
        wait_drained(job.bootstrap, stages, [one, two])
        with pytest.raises(ConfigurationError, match="a feature worker of definition v1 runs"):
            run_rebuild(job)
    told = Replay(
        job.bootstrap, job.topics, job.definition, job.events, labels=job.labels, stage=1
    ).run()
    assert told.identical, told.mismatches
    assert (told.rows, told.repeated) == (1800 - 36, 0)


def test_a_range_is_of_events_wherever_their_rows_go(job: RebuildJob) -> None:
    ranges = {0: (100, 150), 1: (0, 40), 2: (0, 0)}
    run_rebuild(replace(job, ranges=ranges))
    found = sorted(place for part in origins(job, job.topics.features) for place in part)
    assert {partition for partition, _ in found} == {0, 1}
    assert all(ranges[p][0] <= offset < ranges[p][1] for p, offset in found)
    assert len(found) >= 80
    in_part = {(v, p) for p, part in enumerate(values(job, job.topics.features)) for v in part}
    run_rebuild(job)
    whole = {(v, p) for p, part in enumerate(values(job, job.topics.features)) for v in part}
    assert len(whole) == 1500 - 30  # the rows of the range are not there twice
    assert in_part <= whole
    with pytest.raises(ConfigurationError, match="build all of them"):
        run_rebuild(replace(job, partitions=(1,)))
