"""A definition built from the log: the bytes of a worker, whatever stops it, beside what runs."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from features.aggregations import Count, Max
from features.definition import Definition
from features.processing.processor import SnapshotPolicy
from features.reprocessing.reading import RebuildProgress
from features.reprocessing.rebuild import RebuildJob, run_rebuild
from streams.errors import ConfigurationError, DefinitionError, StateError
from streams.expressions import Value
from streams.group_offsets import GroupOffsets
from streams.kafka_client import producer
from streams.replay import offset_bounds
from streams.topics import Topics, ensure_topics
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


V2 = Definition(2, {"count_1h": Count("1h", "5m"), "dearest": Max(Value("amount"), "1h", "5m")})

# What a worker of version 2 runs.
second = SimpleNamespace(topics=Topics("payments", 2), features=V2, events=PAYMENTS)


def version_2(job: RebuildJob, home: Path | None = None) -> RebuildJob:
    topics = Topics(job.topics.name, 2)
    ensure_topics(job.bootstrap, topics.specs(PARTITIONS))
    return replace(job, topics=topics, definition=V2, home=home or job.home)


def values(job: RebuildJob) -> list[bytes | None]:
    return [value for b in read_all(job.bootstrap, job.topics.features) for value in b.values]


def test_it_runs_beside_the_live_worker_and_gives_what_one_would_give(
    job: RebuildJob, bootstrap: str, tmp_path: Path
) -> None:
    """Version 1 runs all the time; 2 is built beside it, on an equal log by a worker alone."""
    other = replace(job, topics=prepared(bootstrap, f"t{uuid4().hex[:8]}"))
    built, lived = version_2(job), version_2(other, tmp_path / "other")
    for one in (job, other):
        send(bootstrap, one.topics, payments(0, 1500))
    progress = Progress(bootstrap, job.topics)
    with feature_worker(bootstrap, job.topics.name, job.home, "--no-online") as worker:
        slow = replace(built, rate=2000.0)
        seen, stop = stop_after(700)
        assert not run_rebuild(slow, seen, stop).complete
        for one in (job, other):
            send(bootstrap, one.topics, payments(1500, 500))
        assert run_rebuild(built).complete
        progress.wait_drained(worker)
    assert values(job) == list(offline(bootstrap, job.topics)[0].values())
    follower = Progress(bootstrap, lived.topics)
    with feature_worker(
        bootstrap, other.topics.name, lived.home, "--no-online",
        declared="tests.features.reprocessing.test_rebuild:second",
    ) as worker:  # fmt: skip
        follower.wait_drained(worker)
        with pytest.raises(ConfigurationError, match="a feature worker of definition v2 runs"):
            run_rebuild(lived)
    assert values(built) == values(lived)
    assert len(values(built)) == 2000 - 60
    progress.close()
    follower.close()


def test_the_worker_goes_on_where_it_ended(job: RebuildJob) -> None:
    send(job.bootstrap, job.topics, payments(0, 1000))
    assert run_rebuild(job).complete
    send(job.bootstrap, job.topics, payments(1000, 500))
    progress = Progress(job.bootstrap, job.topics)
    with feature_worker(job.bootstrap, job.topics.name, job.home, "--no-online") as worker:
        progress.wait_drained(worker)
    progress.close()
    wanted, _ = offline(job.bootstrap, job.topics)
    assert sorted(map(str, values(job))) == sorted(map(str, wanted.values()))
    opened = re.findall(r"state_from=(\d+)", (job.home / "worker.log").read_text())
    assert len(opened) == PARTITIONS
    assert "0" not in opened  # it loaded the snapshots


def test_it_keeps_to_a_rate(job: RebuildJob) -> None:
    send(job.bootstrap, job.topics, payments(0, 1000))
    began_s = time.monotonic()
    report = run_rebuild(replace(job, rate=1000.0))
    assert time.monotonic() - began_s >= 0.9
    assert report.events == 1000
    with pytest.raises(ConfigurationError, match="rate -1"):
        run_rebuild(replace(job, rate=-1))


def test_a_range_holds_its_rows_until_the_next_build(job: RebuildJob) -> None:
    send(job.bootstrap, job.topics, payments(0, 1000))
    wanted, _ = offline(job.bootstrap, job.topics)
    for first, end in ((20, 60), (40, 50)):  # the second takes the place of the first
        report = run_rebuild(replace(job, ranges=dict.fromkeys(range(PARTITIONS), (first, end))))
        assert report.complete
        assert set(notes(job).values()) == {f"range {first}-{end}"}
        found, _ = emitted(job.bootstrap, job.topics)
        assert found == {at: {v} for at, v in wanted.items() if first <= at[1] < end}
    assert run_rebuild(job).complete
    found, in_order = emitted(job.bootstrap, job.topics)
    assert found == {place: {value} for place, value in wanted.items()}
    assert in_order
    with pytest.raises(ConfigurationError, match="built in whole"):
        run_rebuild(replace(job, ranges={0: (0, 10)}))


def test_one_builds_a_definition_at_a_time(job: RebuildJob) -> None:
    send(job.bootstrap, job.topics, payments(0, 200))
    tried: list[str] = []

    def observe(_: RebuildProgress) -> None:
        if not tried:
            with pytest.raises(StateError, match="another replay is building definition v1") as why:
                run_rebuild(job)
            tried.append(str(why.value))

    assert run_rebuild(job, observe).complete
    assert tried


def test_marks_of_transactions_are_read_over(job: RebuildJob) -> None:
    client = producer(job.bootstrap, transactional_id=uuid4().hex)
    client.init_transactions()
    for first, commit in ((0, True), (100, False), (200, True), (300, False)):
        client.begin_transaction()
        for key, value in payments(first, 100):
            client.produce(job.topics.events, value, key)
        if commit:
            client.commit_transaction()
        else:
            client.flush()
            client.abort_transaction()
    report = run_rebuild(job)
    assert (report.complete, report.events) == (True, 200)
    bounds = offset_bounds(job.bootstrap, job.topics.events, PARTITIONS)
    assert report.positions == {p: end for p, (_, end) in bounds.items()}


def test_a_build_fails_where_the_definition_is_not_what_it_was(job: RebuildJob) -> None:
    send(job.bootstrap, job.topics, payments(0, 200))
    run_rebuild(job)
    changed = replace(job, definition=Definition(1, {"count_1h": Count("1h", "5m")}))
    with pytest.raises(DefinitionError, match="Give the changed one version 2"):
        run_rebuild(changed)
