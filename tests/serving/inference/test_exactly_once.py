"""Exactly once, whatever is done to a worker: killed, fenced, too slow."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from kafka.admin import MemberToRemove

from features.records import FeatureCodec
from serving.inference import transaction
from serving.inference.stretches import Outgoing, Position
from serving.inference.transaction import TransactionalHop
from streams import kafka_client
from streams.errors import BrokerError
from streams.kafka_client import consumer, producer
from streams.replay import offset_bounds, read_ranges
from streams.topics import Topics, connect_admin
from tests.serving.feature_stream import (
    DEFINITION,
    EVENTS,
    PARTITIONS,
    T0_MS,
    committed_answers,
    emit,
    new_pipeline,
    rows,
    wait_drained,
    working,
)
from tests.serving.inference.killable_worker import MAX_BATCH

pytestmark = pytest.mark.broker

WORKER = Path(__file__).with_name("killable_worker.py")
RECORDS = 4000


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    return new_pipeline(bootstrap)


@contextmanager
def worker_process(
    bootstrap: str, topics: Topics, transactional: bool
) -> Iterator[subprocess.Popen[bytes]]:
    answer = "yes" if transactional else "no"
    process = subprocess.Popen([sys.executable, str(WORKER), bootstrap, topics.name, answer])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_answers(watcher: Consumer, n: int) -> None:
    """Wait until ``n`` more answers stand in the log, committed or not."""
    deadline = time.monotonic() + 30
    while n > 0:
        n -= len(watcher.consume(n, 0.1))
        assert time.monotonic() < deadline, "the worker answers nothing"


def answer_through_kills(bootstrap: str, topics: Topics, kills: int, transactional: bool) -> int:
    """Kill the worker at random moments after some of its answers appeared, then let it finish.

    Ends after ``kills`` kills, or as soon as an event has two answers; returns how many it took.
    """
    seeded = random.Random(11)
    for partition in range(PARTITIONS):
        emit(bootstrap, topics, partition, range(RECORDS // PARTITIONS))
    watcher = consumer(bootstrap, isolation_level="read_uncommitted", enable_partition_eof=False)
    watcher.assign([TopicPartition(topics.predictions, p, 0) for p in range(PARTITIONS)])
    done = 0
    while done < kills and max(times_answered(bootstrap, topics)) < 2:
        with worker_process(bootstrap, topics, transactional) as process:
            wait_for_answers(watcher, seeded.randrange(1, 3 * MAX_BATCH))
            process.kill()
        done += 1
    watcher.close()
    with worker_process(bootstrap, topics, transactional) as process:
        wait_drained(bootstrap, topics)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    return done


def times_answered(bootstrap: str, topics: Topics) -> Counter[int]:
    """Return how many events were answered how many times, as read_committed readers see it."""
    per_event = Counter(a.event_id for a in committed_answers(bootstrap, topics.predictions))
    counts = Counter(per_event.values())
    counts[0] = RECORDS - len(per_event)
    return +counts


@pytest.mark.slow
def test_killed_workers_leave_one_answer_per_event(bootstrap: str, topics: Topics) -> None:
    assert answer_through_kills(bootstrap, topics, kills=6, transactional=True) == 6
    assert times_answered(bootstrap, topics) == {1: RECORDS}


@pytest.mark.slow
def test_without_transactions_the_same_check_finds_duplicates(
    bootstrap: str, topics: Topics
) -> None:
    answer_through_kills(bootstrap, topics, kills=25, transactional=False)
    assert max(times_answered(bootstrap, topics)) >= 2


def test_a_fenced_worker_goes_on_from_what_was_committed(bootstrap: str, topics: Topics) -> None:
    with working(bootstrap, topics, worker="w0", max_batch=100):
        emit(bootstrap, topics, 0, range(RECORDS // 4))
        for start in range(RECORDS // 4, RECORDS, RECORDS // 4):
            fence(bootstrap, f"{topics.group('inference')}.w0")
            emit(bootstrap, topics, 0, range(start, start + RECORDS // 4))
        wait_drained(bootstrap, topics)
    assert times_answered(bootstrap, topics) == {1: RECORDS}


def test_of_two_workers_of_one_name_the_older_ends(bootstrap: str, topics: Topics) -> None:
    emit(bootstrap, topics, 0, range(RECORDS // 2))
    with pytest.raises(BrokerError, match=r"w0.*another worker of the same name"):
        answer_with_a_namesake(bootstrap, topics)
    assert times_answered(bootstrap, topics) == {1: RECORDS}


def answer_with_a_namesake(bootstrap: str, topics: Topics) -> None:
    with working(bootstrap, topics, worker="w0", max_batch=100) as older:
        wait_answered(bootstrap, topics)
        with working(bootstrap, topics, worker="w0", max_batch=100):
            older.join(30)
            emit(bootstrap, topics, 0, range(RECORDS // 2, RECORDS))
            wait_drained(bootstrap, topics)


def wait_answered(bootstrap: str, topics: Topics) -> None:
    """Wait until somebody has answered something, and so is a member of the group."""
    deadline = time.monotonic() + 30
    while offset_bounds(bootstrap, topics.predictions, 1)[0][1] == 0:
        assert time.monotonic() < deadline, "nobody answers"


def fence(bootstrap: str, transactional_id: str) -> None:
    other = producer(bootstrap, transactional_id=transactional_id)
    other.init_transactions(30)
    other.close()


@contextmanager
def hop_of(
    bootstrap: str,
    topics: Topics,
    timeout_ms: int = 15_000,
    worker: str = "w0",
    max_batch_bytes: int = 1 << 20,
) -> Iterator[TransactionalHop]:
    hop = TransactionalHop(
        bootstrap, topics.predictions, [topics.features], topics.group("inference"), worker,
        max_batch=100, max_batch_bytes=max_batch_bytes, transaction_timeout_ms=timeout_ms,
    )  # fmt: skip
    try:
        yield hop
    finally:
        hop.close()


def next_reached(hop: TransactionalHop) -> dict[int, int]:
    deadline = time.monotonic() + 30
    while not (taken := hop.take()).reached:
        assert time.monotonic() < deadline, "nothing to take"
        places = [(topic, partition) for topic in hop.inputs for partition in hop.held]
        hop.read({place: hop.committed.get(place, Position(0)) for place in places})
    return {partition: offset for (_, partition), offset in taken.reached.items()}


def answer(topic: str, text: bytes, partition: int = 0) -> Outgoing:
    return Outgoing(topic, partition, [b"k"], [text], [T0_MS], [[]])


def committed_values(bootstrap: str, topic: str) -> list[bytes | None]:
    bounds = offset_bounds(bootstrap, topic, PARTITIONS)
    return [value for batch in read_ranges(bootstrap, topic, bounds) for value in batch.values]


def test_a_failed_delivery_takes_the_same_records_again(bootstrap: str, topics: Topics) -> None:
    emit(bootstrap, topics, 0, range(10))
    with hop_of(bootstrap, topics) as hop:
        reached = next_reached(hop)
        nowhere = answer(topics.predictions, b"nowhere", partition=99)
        first = answer(topics.predictions, b"given up")
        assert not hop.commit([first, nowhere], {(topics.features, 0): Position(10, 9)})
        assert next_reached(hop) == reached == {0: 10}
        assert hop.commit(
            [answer(topics.predictions, b"kept")], {(topics.features, 0): Position(10, 9)}
        )
    assert committed_values(bootstrap, topics.predictions) == [b"kept"]


@pytest.mark.slow  # the broker looks for overdue transactions every 10 s
def test_a_transaction_that_timed_out_is_done_again(bootstrap: str, topics: Topics) -> None:
    emit(bootstrap, topics, 0, range(10))

    def overdue() -> Iterator[Outgoing]:
        yield answer(topics.predictions, b"too late")
        while offset_bounds(bootstrap, topics.predictions, 1)[0][1] == 0:
            time.sleep(0.05)  # until the broker's abort marker stands behind the record

    with hop_of(bootstrap, topics, timeout_ms=1000) as hop:
        next_reached(hop)
        assert not hop.commit(overdue(), {(topics.features, 0): Position(10, 9)})
        assert next_reached(hop) == {0: 10}
        assert hop.commit(
            [answer(topics.predictions, b"in time")], {(topics.features, 0): Position(10, 9)}
        )
    assert committed_values(bootstrap, topics.predictions) == [b"in time"]


def test_the_last_source_answered_travels_with_the_offset(bootstrap: str, topics: Topics) -> None:
    emit(bootstrap, topics, 1, range(10))
    with hop_of(bootstrap, topics) as hop:
        assert next_reached(hop) == {1: 10}
        assert hop.commit([], {(topics.features, 1): Position(10, 1234)})
    with hop_of(bootstrap, topics) as hop:
        emit(bootstrap, topics, 1, range(1))
        assert next_reached(hop) == {1: 11}
        assert hop.positions[topics.features, 1] == Position(10, 1234)


def test_a_batch_ends_where_its_bytes_are_enough(
    bootstrap: str, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "_SLICE", 4)
    emit(bootstrap, topics, 0, range(100))
    size = len(FeatureCodec(DEFINITION, EVENTS).encode(rows(0, [0]))[0])
    with hop_of(bootstrap, topics, max_batch_bytes=9 * size) as hop:
        assert next_reached(hop) == {0: 1 + 4 + 4}


def test_a_worker_put_out_of_the_group_does_not_commit_into_an_empty_one(
    bootstrap: str, topics: Topics
) -> None:
    # The members are put out by an operator, as it takes no session time-out to show the same.
    emit(bootstrap, topics, 0, range(10))
    with hop_of(bootstrap, topics, worker="w0") as slow:
        assert next_reached(slow) == {0: 10}
        put_out(bootstrap, topics, "w0")
        with hop_of(bootstrap, topics, worker="w1") as quick:
            assert next_reached(quick) == {0: 10}
            once = answer(topics.predictions, b"once")
            assert quick.commit([once], {(topics.features, 0): Position(10, 9)})
        put_out(bootstrap, topics, "w1")
        wait_without_name(slow)
        again = answer(topics.predictions, b"again")
        assert not slow.commit([again], {(topics.features, 0): Position(10, 9)})
    assert committed_values(bootstrap, topics.predictions) == [b"once"]


def put_out(bootstrap: str, topics: Topics, worker: str) -> None:
    admin = connect_admin(bootstrap)
    admin.remove_group_members(
        topics.group("inference"), [MemberToRemove(group_instance_id=worker)]
    )
    admin.close()


def wait_without_name(hop: TransactionalHop) -> None:
    """Wait until the client has heard that it is no member any more."""
    deadline = time.monotonic() + 30
    while hop._consumer.memberid():
        assert time.monotonic() < deadline, "the client takes itself for a member"
        time.sleep(0.02)


class Late:
    """Of the consumers, the first one to be closed does so when it is ``released``."""

    def __init__(self) -> None:
        self.released, self.closed = threading.Event(), threading.Event()
        self.begun: Consumer | None = None

    def kind(self) -> type[Consumer]:
        """Return the class that its consumers are of."""
        late = self

        class ClosesLate(Consumer):
            def close(self) -> None:
                first = late.begun is None
                late.begun = late.begun or self
                assert not first or late.released.wait(60)
                super().close()
                if first:
                    late.closed.set()

        return ClosesLate


def test_a_consumer_that_does_not_close_is_left_behind(
    bootstrap: str, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Late()
    monkeypatch.setattr(kafka_client, "Consumer", late.kind())
    emit(bootstrap, topics, 0, range(10))
    with hop_of(bootstrap, topics) as hop:
        assert next_reached(hop) == {0: 10}
        nowhere = answer(topics.predictions, b"nowhere", partition=99)
        assert not hop.commit([nowhere], {(topics.features, 0): Position(10, 9)})
        assert next_reached(hop) == {0: 10}
        assert late.begun is not None
        assert not late.closed.is_set()
        late.released.set()
        assert late.closed.wait(30)
        assert hop.held == list(range(PARTITIONS))
        kept = answer(topics.predictions, b"kept")
        assert hop.commit([kept], {(topics.features, 0): Position(10, 9)})
    assert committed_values(bootstrap, topics.predictions) == [b"kept"]
