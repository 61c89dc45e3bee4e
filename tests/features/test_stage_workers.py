"""Workers of both stages of a definition with two keys, as processes on a real broker."""

import subprocess
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from features.processing.stages import Stage
from features.records import FeatureCodec
from streams.replay import offset_bounds, read_ranges
from streams.topics import dead_letter_topic
from tests.features import shops
from tests.features.shops import (
    copy,
    features_by_event,
    payments,
    prepared,
    replayed,
    send,
    stage_worker,
    verdicts,
    wait_drained,
)

pytestmark = [
    pytest.mark.broker,
    # kafka-python 3 leaves the self-pipe of a closed administration client to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


SNAPSHOTS = ("--snapshot-every", "100")


def send_with_verdicts(bootstrap: str, stage: Stage, first: int, n: int) -> None:
    """Append payments and the verdicts that are known by then, as a bank would."""
    send(bootstrap, stage.topics.labels, verdicts(max(0, first - 60), n if first else n - 60))
    send(bootstrap, stage.topics.events, payments(first, n))


def test_labels_are_read_beside_events_and_a_replay_finds_the_same_order(
    bootstrap: str, tmp_path: Path
) -> None:
    stages = prepared(bootstrap, f"t{uuid4().hex[:8]}", shops.with_verdicts)
    first, last = stages
    send_with_verdicts(bootstrap, first, 0, 900)  # there before the workers are
    with (
        stage_worker(bootstrap, first, "with_verdicts", tmp_path, *SNAPSHOTS) as one,
        stage_worker(bootstrap, last, "with_verdicts", tmp_path, *SNAPSHOTS) as two,
    ):
        wait_drained(bootstrap, stages, [one, two])
        for number in range(900, 1800, 90):
            send_with_verdicts(bootstrap, first, number, 90)
            if number == 1350:
                two.kill()
                two.wait(10)
        wait_drained(bootstrap, stages[:1], [one])
        with stage_worker(bootstrap, last, "with_verdicts", tmp_path, *SNAPSHOTS) as again:
            wait_drained(bootstrap, stages, [one, again])
    report = replayed(bootstrap, last)
    assert report.identical, report.mismatches
    assert report.rows == 1800 - 36
    codec = FeatureCodec(last.definition, last.events, last.labels)
    bounds = offset_bounds(bootstrap, last.output, last.events.partitions)
    known = last.definition.names("numeric").index("shop_verdicts_1h")
    counted = 0.0
    for batch in read_ranges(bootstrap, last.output, bounds):
        rows = codec.decode(batch)
        assert rows.label_offsets is not None
        counted = max(counted, rows.numeric[:, known].max())
    assert counted > 20


def assert_in_the_order_of_time(bootstrap: str, stage: Stage) -> None:
    """What stood in several partitions of the events stands by record time in the re-keyed topic:
    record n of the events has second n as its time."""
    for partition in range(stage.events.partitions):
        bounds = offset_bounds(bootstrap, stage.input, stage.events.partitions)[partition]
        numbers = [
            int(msgspec.json.decode(value)["event"]["payment"].removeprefix("p"))
            for batch in read_ranges(bootstrap, stage.input, {partition: bounds})
            for value in batch.values
            if value is not None
        ]
        assert numbers == sorted(numbers)


def test_each_event_gets_a_record_of_all_keys(bootstrap: str, tmp_path: Path) -> None:
    stages = prepared(bootstrap, f"t{uuid4().hex[:8]}", shops.both_keys)
    first, last = stages
    send(bootstrap, first.input, payments(0, 1500))
    with (
        stage_worker(bootstrap, first, "both_keys", tmp_path) as one,
        stage_worker(bootstrap, last, "both_keys", tmp_path) as two,
    ):
        wait_drained(bootstrap, stages, [one, two])
    for stage in stages:
        report = replayed(bootstrap, stage)
        assert report.identical, (stage.role, report.mismatches)
        assert report.rows == 1500 - 30
        assert (report.repeated, report.pending) == (0, 0)
    assert_in_the_order_of_time(bootstrap, last)

    codec = FeatureCodec(last.definition, last.events, last.labels)
    bounds = offset_bounds(bootstrap, last.output, last.events.partitions)
    origins: set[tuple[int, int]] = set()
    for batch in read_ranges(bootstrap, last.output, bounds):
        rows = codec.decode(batch)
        assert rows.origin_partitions is not None
        assert rows.origin_offsets is not None
        origins |= set(
            zip(rows.origin_partitions.tolist(), rows.origin_offsets.tolist(), strict=True)
        )
        assert batch.timestamps_ms.tolist() == rows.event_times_ms.tolist()
    dead = dead_letter_topic(first.input)
    letters = read_ranges(bootstrap, dead, offset_bounds(bootstrap, dead, 1))
    assert sum(map(len, letters)) == 30
    assert len(origins) == 1500 - 30


def test_two_workers_and_a_third_that_joins_under_load_give_what_one_gives(
    bootstrap: str, tmp_path: Path
) -> None:
    (one,) = prepared(bootstrap, f"t{uuid4().hex[:8]}", shops.one_key)
    (several,) = prepared(bootstrap, f"t{uuid4().hex[:8]}", shops.one_key)
    homes = [tmp_path / name for name in ("first", "second", "third")]
    sent = 0
    with ExitStack() as stack:

        def start(home: Path) -> subprocess.Popen[bytes]:
            worker = stage_worker(bootstrap, several, "one_key", home, *SNAPSHOTS)
            return stack.enter_context(worker)

        def send_until_opened(home: Path) -> None:
            """Keep the load up while the new worker's partitions come to it."""
            nonlocal sent
            while "partition opened" not in (home / "worker-0.log").read_text():
                send(bootstrap, several.input, payments(sent, 100))
                sent += 100
                assert [worker.poll() for worker in workers] == [None] * len(workers)

        workers = [start(home) for home in homes[:2]]
        for home in homes[:2]:
            send_until_opened(home)
        workers.append(start(homes[2]))
        send_until_opened(homes[2])
        send(bootstrap, several.input, payments(sent, 1000))
        wait_drained(bootstrap, [several], workers)
        workers.pop().terminate()
        send(bootstrap, several.input, payments(sent + 1000, 500))
        wait_drained(bootstrap, [several], workers)
    copy(bootstrap, several.input, one.input, one.events.partitions)
    with stage_worker(bootstrap, one, "one_key", tmp_path / "alone") as worker:
        wait_drained(bootstrap, [one], [worker])
    wanted = features_by_event(bootstrap, one)
    assert len(wanted) >= 1500 * 0.98
    assert features_by_event(bootstrap, several) == wanted
