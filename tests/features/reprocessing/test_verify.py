"""Replay finds every difference between the log and the features topic, and nothing else."""

from pathlib import Path
from uuid import uuid4

import pytest

from features.engine.engine import FeatureEngine
from features.reprocessing.verify import Mismatch, Replay
from streams.errors import StateError
from streams.kafka_client import consumer, producer
from streams.snapshots import Snapshot, SnapshotStore
from streams.topics import Topics
from tests.features.payments import (
    DEFINITION,
    PARTITIONS,
    PAYMENTS,
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


class Stage:
    """A features topic written and committed by hand, as a worker would."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.topics: Topics = prepared(bootstrap, f"t{uuid4().hex[:8]}")
        self._producer = producer(bootstrap)

    def emit(self, values: dict[tuple[int, int], bytes]) -> None:
        for (partition, _), value in sorted(values.items()):
            self._producer.produce(self.topics.features, value, b"k", partition)
        assert self._producer.flush(30) == 0

    def commit(self, offsets: dict[int, int]) -> None:
        from confluent_kafka import TopicPartition

        client = consumer(self.bootstrap, group_id=self.topics.group("features"))
        places = [TopicPartition(self.topics.events, p, o) for p, o in offsets.items()]
        client.commit(offsets=places, asynchronous=False)
        client.close()

    def replay(self, store: SnapshotStore | None = None) -> Replay:
        return Replay(self.bootstrap, self.topics, DEFINITION, PAYMENTS, store)


@pytest.fixture
def stage(bootstrap: str) -> Stage:
    made = Stage(bootstrap)
    send(bootstrap, made.topics, payments(0, 600))
    return made


def ends(stage: Stage) -> dict[int, int]:
    return {b.partition: b.next_offset for b in read_all(stage.bootstrap, stage.topics.events)}


def test_an_untouched_topic_is_identical_and_repetitions_are_no_difference(stage: Stage) -> None:
    values, dead = offline(stage.bootstrap, stage.topics)
    stage.emit(values)
    stage.emit(dict(list(values.items())[50:80]))
    stage.commit(ends(stage))
    report = stage.replay().run()
    assert report.identical
    assert (report.events, report.rows, report.dead_letters) == (600, len(values), dead)
    assert (report.records, report.repeated) == (len(values) + 30, 30)
    assert stage.replay().run().digest == report.digest


def test_changed_missing_and_foreign_records_are_named(stage: Stage) -> None:
    values, _ = offline(stage.bootstrap, stage.topics)
    places = sorted(values)
    changed, missing = places[10], places[20]
    tampered = dict(values)
    tampered[changed] = values[changed].replace(b'"count_5m":', b'"count_5m":1')
    foreign_value = values[places[30]].replace(
        b'"offset":%d' % places[30][1], b'"offset":%d' % (places[30][1] + 100_000)
    )
    del tampered[missing]
    stage.emit(tampered)
    limits = ends(stage)
    stage.emit({(places[30][0], 1 << 40): foreign_value})
    stage.commit(limits)
    report = stage.replay().run()
    assert not report.identical
    assert (report.different, report.missing, report.unexpected) == (1, 1, 0)
    assert report.mismatches == [
        Mismatch(*changed, "different"),
        Mismatch(*missing, "missing"),
    ]
    # One that claims to come from a dead letter's offset is in the range, and of no event.
    holes = set(range(limits[0])) - {offset for partition, offset in values if partition == 0}
    hole = min(holes)
    stage.emit({(0, hole): values[0, min(o for p, o in values if p == 0)].replace(
        b'"source":{"partition":0,"offset":%d}' % min(o for p, o in values if p == 0),
        b'"source":{"partition":0,"offset":%d}' % hole,
    )})  # fmt: skip
    assert stage.replay().run().unexpected == 1


def test_only_the_range_is_compared_and_only_what_is_committed(stage: Stage) -> None:
    values, _ = offline(stage.bootstrap, stage.topics)
    limits = ends(stage)
    middle = {p: end // 2 for p, end in limits.items()}
    stage.emit({place: value for place, value in values.items() if place[1] < middle[place[0]]})
    stage.commit(middle)
    report = stage.replay().run()
    assert report.identical
    assert report.pending == sum(limits.values()) - sum(middle.values())
    stage.commit(limits)
    assert stage.replay().run().missing == len(values) - report.rows
    assert stage.replay().run({p: (0, end) for p, end in middle.items()}).identical
    late = stage.replay().run({1: (10, 20)})
    assert late.identical
    assert late.rows == sum(p == 1 and 10 <= o < 20 for p, o in values)
    assert late.events == 20  # the windows need what stands before


def test_a_replay_from_a_snapshot_reads_only_what_follows_it(stage: Stage, tmp_path: Path) -> None:
    values, _ = offline(stage.bootstrap, stage.topics)
    stage.emit(values)
    limits = ends(stage)
    stage.commit(limits)
    store = SnapshotStore(tmp_path, "log@1")
    engine = FeatureEngine(DEFINITION, PAYMENTS)
    (first,) = [b for b in read_all(stage.bootstrap, stage.topics.events) if b.partition == 0]
    engine.process(first)
    store.save(0, Snapshot(limits[0], engine.snapshot()))
    send(stage.bootstrap, stage.topics, payments(600, 200))
    new_ends = ends(stage)
    more, _ = offline(stage.bootstrap, stage.topics)
    stage.emit({place: value for place, value in more.items() if place not in values})
    stage.commit(new_ends)
    report = stage.replay(store).run({0: (limits[0], new_ends[0])})
    assert report.identical
    assert report.events == new_ends[0] - limits[0]
    assert report.rows > 0


def test_a_record_that_is_none_is_an_error_that_says_where(stage: Stage) -> None:
    stage.emit({(p, 0): b"{}" for p in range(PARTITIONS)})
    stage.commit(ends(stage))
    with pytest.raises(StateError, match="no feature record"):
        stage.replay().run()
