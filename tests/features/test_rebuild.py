"""A definition built from the log: the bytes of a worker, whatever stops it, beside what runs."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from features.aggregations import Count, Max
from features.definition import Definition
from features.processor import SnapshotPolicy
from features.rebuild import RebuildJob, RebuildProgress, run_rebuild
from streams.errors import ConfigurationError, StateError
from streams.group_offsets import GroupOffsets
from streams.topics import Topics
from tests.features.payments import (
    DEFINITION,
    PARTITIONS,
    PAYMENTS,
    Progress,
    emitted,
    feature_worker,
    offline,
    payments,
    prepared,
    read_all,
    send,
)

pytestmark = [
    pytest.mark.broker,
    # kafka-python 3 leaves the self-pipe of a closed administration client to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def job(bootstrap: str, tmp_path: Path) -> RebuildJob:
    topics = prepared(bootstrap, f"t{uuid4().hex[:8]}")
    return RebuildJob(bootstrap, topics, DEFINITION, PAYMENTS, tmp_path, online=False)


def stop_after(events: int) -> tuple[Callable[[RebuildProgress], None], Callable[[], bool]]:
    """Return an observer and a stop that comes once so many events are done."""
    seen = [0]
    return lambda progress: seen.__setitem__(0, progress.done), lambda: seen[0] >= events


def notes(job: RebuildJob) -> dict[int, str]:
    offsets = GroupOffsets(job.bootstrap, job.topics.group("features"), job.topics.events)
    try:
        return {p: at.note for p, at in offsets.read(PARTITIONS).items()}
    finally:
        offsets.close()


def test_it_gives_the_bytes_of_a_worker(job: RebuildJob) -> None:
    send(job.bootstrap, job.topics, payments(0, 3000))
    report = run_rebuild(job)
    wanted, dead = offline(job.bootstrap, job.topics)
    values, in_order = emitted(job.bootstrap, job.topics)
    assert values == {place: {value} for place, value in wanted.items()}
    assert in_order
    assert (report.events, report.rows, report.complete) == (3000, 3000 - dead, True)
    assert notes(job) == dict.fromkeys(range(PARTITIONS), "")
    # The bad events were told of by whoever followed the log live.
    assert not read_all(job.bootstrap, f"{job.topics.events}.dlq", 1)


def test_stopped_and_resumed_nothing_is_lost_repeated_or_changed(job: RebuildJob) -> None:
    send(job.bootstrap, job.topics, payments(0, 3000))
    slices = replace(job, rate=1e6, snapshots=SnapshotPolicy(every_records=300))
    events = 0
    for limit in (500, 900, 400):
        report = run_rebuild(slices, *stop_after(limit))
        assert not report.complete
        assert set(notes(job).values()) == {"building"}
        events += report.events
    report = run_rebuild(job)
    assert report.complete
    assert events + report.events == 3000  # nothing is read twice
    wanted, _ = offline(job.bootstrap, job.topics)
    values, in_order = emitted(job.bootstrap, job.topics)
    assert values == {place: {value} for place, value in wanted.items()}
    assert in_order
    assert sum(map(len, read_all(job.bootstrap, job.topics.features))) == len(wanted)
