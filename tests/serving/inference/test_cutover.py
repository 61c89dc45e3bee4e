"""The switch from one definition to another, on a real broker: each event is answered once."""

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
from confluent_kafka.admin import AdminClient

from features.definition import Definition
from streams.cutover import Cutovers, Span
from streams.errors import ConfigurationError
from streams.kafka_client import consumer, producer
from streams.topics import Topics
from streams.wire import DefinitionActivated, DefinitionChanged, Positions, Prediction
from tests.serving.feature_stream import (
    DEFINITION,
    PARTITIONS,
    REKEYED,
    V2,
    append,
    committed_answers,
    emit,
    live,
    new_pipeline,
    registered,
    shadow,
    wait_activated,
    wait_drained,
    wait_switched,
    working,
)
from tests.serving.inference.killable_worker import MAX_BATCH

pytestmark = pytest.mark.broker

BOTH = (DEFINITION, V2)
WORKER = Path(__file__).with_name("killable_worker.py")


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    return new_pipeline(bootstrap, V2)


def order(
    change: int, definition: int, before: int, model: int = 0, at: Positions | None = None
) -> DefinitionChanged:
    return DefinitionChanged(change, definition, before, model, PARTITIONS, "a test", at=at)


def emit_both(bootstrap: str, topics: Topics, sources: range) -> None:
    for partition in range(PARTITIONS):
        for definition in BOTH:
            emit(bootstrap, topics, partition, sources, definition=definition)


def answered(bootstrap: str, topics: Topics, events: int) -> list[Prediction]:
    """Return the answers; each of the events of each partition has one."""
    answers = committed_answers(bootstrap, topics.predictions)
    once = Counter(f"e{p}-{i}" for p in range(PARTITIONS) for i in range(events))
    assert Counter(a.event_id for a in answers) == once
    return answers


def check_places(answers: list[Prediction], cutovers: Cutovers) -> None:
    """Check that the log says of each answer's event that this definition answers it."""
    for answer in answers:
        spans = cutovers.spans(answer.source.partition, 1)
        at = answer.source.offset
        (due,) = [s for s in spans if s.first <= at and (s.end is None or at < s.end)]
        assert answer.definition == due.definition


def test_a_drained_pipeline_switches_at_the_next_event(bootstrap: str, topics: Topics) -> None:
    append(bootstrap, topics, registered(1), live(1), registered(2, definition=2))
    with working(bootstrap, topics, definitions=BOTH):
        emit_both(bootstrap, topics, range(100))
        wait_drained(bootstrap, topics)
        append(bootstrap, topics, order(1, 2, 1, model=2))
        cutovers = wait_switched(bootstrap, topics)
        assert [cutovers.spans(p, 1) for p in range(PARTITIONS)] == [
            [Span(0, 100, 1), Span(100, None, 2)]
        ] * PARTITIONS
        emit_both(bootstrap, topics, range(100, 150))
        wait_drained(bootstrap, topics, definition=V2)
    answers = answered(bootstrap, topics, 150)
    assert {(a.source.offset >= 100, a.definition, a.model_version) for a in answers} == {
        (False, 1, 1),
        (True, 2, 2),
    }
    begun = wait_activated(bootstrap, topics, 2)
    assert begun.positions == {"0": 100, "1": 100}


def test_a_switch_under_load_and_back_and_forth(bootstrap: str, topics: Topics) -> None:
    append(bootstrap, topics, registered(1), live(1))
    done = threading.Event()

    def load() -> None:
        for start in range(0, 4000, 500):
            emit_both(bootstrap, topics, range(start, start + 500))
        done.set()

    feeding = threading.Thread(target=load)
    with working(bootstrap, topics, max_batch=40, definitions=BOTH):
        feeding.start()
        deadline = time.monotonic() + 60
        while not committed_answers(bootstrap, topics.predictions):  # some are by the first
            assert time.monotonic() < deadline, "nothing was answered in 60 s"
        for change, (definition, before) in enumerate([(2, 1), (1, 2), (2, 1)], start=1):
            append(bootstrap, topics, order(change, definition, before))
            cutovers = wait_switched(bootstrap, topics, change)
        feeding.join(60)
        assert done.is_set()
        wait_drained(bootstrap, topics, definition=V2)
    answers = answered(bootstrap, topics, 4000)
    check_places(answers, cutovers)
    assert {a.definition for a in answers} == {1, 2}


def test_a_stated_offset_ahead_is_kept(bootstrap: str, topics: Topics) -> None:
    with working(bootstrap, topics, max_batch=30, definitions=BOTH):
        emit_both(bootstrap, topics, range(100))
        wait_drained(bootstrap, topics)
        append(bootstrap, topics, order(1, 2, 1, at={"0": 150, "1": 40}))
        cutovers = wait_switched(bootstrap, topics)
        assert [cutovers.spans(p, 1)[1].first for p in range(PARTITIONS)] == [150, 100]
        # It ends before its features reach there: the next worker reads on.
        emit_both(bootstrap, topics, range(100, 120))
        wait_drained(bootstrap, topics, definition=V2)
    with working(bootstrap, topics, max_batch=30, definitions=BOTH):
        emit_both(bootstrap, topics, range(120, 200))
        wait_drained(bootstrap, topics, definition=V2)
        wait_answers(bootstrap, topics, 400)
        # And back, where the first version has been left behind.
        append(bootstrap, topics, order(2, 1, 2))
        cutovers = wait_switched(bootstrap, topics, 2)
        emit_both(bootstrap, topics, range(200, 220))
        wait_drained(bootstrap, topics)
    answers = answered(bootstrap, topics, 220)
    check_places(answers, cutovers)


def wait_answers(bootstrap: str, topics: Topics, n: int) -> None:
    """Wait until ``n`` answers are committed."""
    deadline = time.monotonic() + 60
    while len(committed_answers(bootstrap, topics.predictions)) < n:
        assert time.monotonic() < deadline, "not all is answered after 60 s"
        time.sleep(0.05)


@pytest.mark.slow
def test_kills_around_the_switch_leave_one_answer_per_event(bootstrap: str, topics: Topics) -> None:
    """Killed while it answers, and as soon as it has said anything; there and back."""
    seeded = random.Random(7)
    emit_both(bootstrap, topics, range(1500))
    with watching(bootstrap, topics.models) as control:
        for change, (definition, before) in enumerate([(2, 1), (1, 2)], start=1):
            kill_after_answers(bootstrap, topics, seeded.randrange(1, 150))
            append(bootstrap, topics, order(change, definition, before))
            for _ in range(2):  # the order, or what one of the partitions says to it
                with worker_process(bootstrap, topics):
                    wait_for_records(control, 1)
            kill_after_answers(bootstrap, topics, seeded.randrange(2 * MAX_BATCH, 3 * MAX_BATCH))
    with worker_process(bootstrap, topics) as process:
        cutovers = wait_switched(bootstrap, topics, 2)
        wait_drained(bootstrap, topics)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    check_places(answered(bootstrap, topics, 1500), cutovers)
    # The partitions are read one after the other, so the second version may answer of one only.
    assert [1, 2, 1] in turns_of(bootstrap, topics).values()


def turns_of(bootstrap: str, topics: Topics) -> dict[int, list[int]]:
    """Return partition → the definitions in the order in which they answered."""
    answers = committed_answers(bootstrap, topics.predictions)
    turns: dict[int, list[int]] = {}
    for answer in sorted(answers, key=lambda a: (a.source.partition, a.source.offset)):
        seen = turns.setdefault(answer.source.partition, [])
        if seen[-1:] != [answer.definition]:
            seen.append(answer.definition)
    return turns


@contextmanager
def worker_process(bootstrap: str, topics: Topics) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker that knows both definitions; killed at the end, if it still runs."""
    command = [sys.executable, str(WORKER), bootstrap, topics.name, "yes", "1,2"]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def watching(bootstrap: str, topic: str) -> Iterator[Consumer]:
    """Read a topic from its beginning, what is not committed included."""
    watcher = consumer(bootstrap, isolation_level="read_uncommitted", enable_partition_eof=False)
    watcher.assign([TopicPartition(topic, p, 0) for p in partitions_of(bootstrap, topic)])
    try:
        yield watcher
    finally:
        watcher.close()


def partitions_of(bootstrap: str, topic: str) -> range:
    client = consumer(bootstrap)
    try:
        return range(len(client.list_topics(topic, timeout=10).topics[topic].partitions))
    finally:
        client.close()


def wait_for_records(watcher: Consumer, n: int) -> None:
    deadline = time.monotonic() + 60
    while n > 0:
        n -= len(watcher.consume(n, 0.1))
        assert time.monotonic() < deadline, "nothing comes"


def kill_after_answers(bootstrap: str, topics: Topics, n: int) -> None:
    """Run a worker and kill it as soon as ``n`` more answers stand in the log."""
    with watching(bootstrap, topics.predictions) as answers:
        while answers.consume(1000, 0.5):
            pass
        with worker_process(bootstrap, topics):
            wait_for_records(answers, n)


def test_a_definition_whose_events_are_spread_over_the_partitions(bootstrap: str) -> None:
    """Half of the events of each partition are re-keyed into the other one."""
    topics = new_pipeline(bootstrap, REKEYED)
    spread = {q: [(i % 2 if q == 0 else 1 - i % 2, i) for i in range(300)] for q in range(2)}

    def feed(first: int, end: int) -> None:
        for q in range(PARTITIONS):
            append_events(bootstrap, topics, q, end - first)
            emit(bootstrap, topics, q, range(first, end))
            emit(
                bootstrap, topics, q, range(first, end), definition=REKEYED,
                origins=spread[q][first:end],
            )  # fmt: skip

    to_rekeyed = DefinitionChanged(1, 3, 1, 0, PARTITIONS, "a test", together=True)
    back = DefinitionChanged(2, 1, 3, 0, PARTITIONS, "a test", together=True, at={"0": 210})
    both = (DEFINITION, REKEYED)
    feed(0, 100)
    # Two workers: each has to wait for what the other one says.
    with (
        working(bootstrap, topics, worker="w0", max_batch=20, definitions=both),
        working(bootstrap, topics, worker="w1", max_batch=20, definitions=both),
    ):
        append(bootstrap, topics, to_rekeyed)
        cutovers = wait_switched(bootstrap, topics)
        feed(100, 200)
        wait_drained(bootstrap, topics, definition=REKEYED)
    with working(bootstrap, topics, worker="w0", max_batch=20, definitions=both):
        append(bootstrap, topics, back)
        cutovers = wait_switched(bootstrap, topics, 2)
        feed(200, 300)
        wait_answers(bootstrap, topics, 600)
        wait_drained(bootstrap, topics)
    answers = answered(bootstrap, topics, 300)
    check_places(answers, cutovers)
    assert [s.definition for s in cutovers.spans(0, 1)] == [1, 3, 1]
    assert cutovers.spans(0, 1)[2].first == 210
    assert {a.definition for a in answers} == {1, 3}


def append_events(bootstrap: str, topics: Topics, partition: int, n: int) -> None:
    """Append to the events topic, whose end tells what may have been answered."""
    client = producer(bootstrap)
    for _ in range(n):
        client.produce(topics.events, b"{}", b"k", partition)
    assert client.flush(30) == 0


def test_a_position_that_knows_of_a_switch_waits_until_the_log_shows_it(
    bootstrap: str, topics: Topics
) -> None:
    """The group's positions may show a transaction before the control log shows its record."""
    group = topics.group("inference")
    emit_both(bootstrap, topics, range(30))
    client = consumer(bootstrap, group_id=group)
    switched = [TopicPartition(topics.features, p, 20, "source=19 change=1") for p in range(2)]
    client.commit(offsets=switched, asynchronous=False)
    client.close()
    with (
        working(bootstrap, topics, definitions=BOTH),
        watching(bootstrap, topics.predictions) as watcher,
    ):
        wait_assigned(bootstrap, group)
        assert not watcher.consume(1, 2.0), "it answers without knowing by which definition"
        append(bootstrap, topics, order(1, 2, 1))
        for p in range(PARTITIONS):
            append(bootstrap, topics, DefinitionActivated(1, 2, p, {str(p): 20}, "w0"))
        wait_drained(bootstrap, topics, definition=V2)
    answers = committed_answers(bootstrap, topics.predictions)
    assert Counter(a.event_id for a in answers) == Counter(
        f"e{p}-{i}" for p in range(PARTITIONS) for i in range(20, 30)
    )
    assert {a.definition for a in answers} == {2}


def wait_assigned(bootstrap: str, group: str) -> None:
    """Wait until the group's members have partitions."""
    client = AdminClient({"bootstrap.servers": bootstrap})
    deadline = time.monotonic() + 60
    while True:
        members = client.describe_consumer_groups([group])[group].result().members
        if any(member.assignment.topic_partitions for member in members):
            return
        assert time.monotonic() < deadline, "nobody is assigned anything"


def test_a_shadow_of_the_other_definition_answers_before_the_switch(
    bootstrap: str, topics: Topics
) -> None:
    append(
        bootstrap, topics, registered(1), registered(2, definition=2),
        shadow(1, {"0": 10}), shadow(2, {"0": 20, "1": 30}),
    )  # fmt: skip
    emit_both(bootstrap, topics, range(50))
    with working(bootstrap, topics, role="shadow", worker="s0", definitions=BOTH):
        wait_drained(bootstrap, topics, "shadow")
        wait_drained(bootstrap, topics, "shadow", V2)
    answers = committed_answers(bootstrap, topics.shadow)
    first = {(1, 1, 0): 10, (1, 1, 1): 0, (2, 2, 0): 20, (2, 2, 1): 30}
    found = {
        key: sorted(
            a.source.offset
            for a in answers
            if (a.model_version, a.definition, a.source.partition) == key
        )
        for key in first
    }
    assert found == {key: list(range(at, 50)) for key, at in first.items()}
    assert len(answers) == sum(map(len, found.values()))


def test_a_worker_that_lacks_the_definition_goes_on_and_ends_when_it_is_needed(
    bootstrap: str, topics: Topics
) -> None:
    emit_both(bootstrap, topics, range(30))
    with working(bootstrap, topics):
        append(bootstrap, topics, order(1, 2, 1))
        wait_drained(bootstrap, topics)  # it can't obey, and answers as before
    with working(bootstrap, topics, definitions=BOTH):
        cutovers = wait_switched(bootstrap, topics)
    with pytest.raises(ConfigurationError, match=r"definition v2.*declares only v1"):
        work_until_it_ends(bootstrap, topics, (DEFINITION,))
    # What was first is kept in the log: without it declared, nothing is answered twice.
    with working(bootstrap, topics, definitions=(V2,)):
        emit_both(bootstrap, topics, range(30, 40))
        wait_drained(bootstrap, topics, definition=V2)
    check_places(answered(bootstrap, topics, 40), cutovers)


def test_another_first_definition_without_an_order_is_refused(
    bootstrap: str, topics: Topics
) -> None:
    emit_both(bootstrap, topics, range(10))
    with working(bootstrap, topics):
        wait_drained(bootstrap, topics)
    with pytest.raises(ConfigurationError, match=r"declare v1 before it.*kappa cutover v2"):
        work_until_it_ends(bootstrap, topics, (V2, DEFINITION))
    answered(bootstrap, topics, 10)


def work_until_it_ends(bootstrap: str, topics: Topics, definitions: tuple[Definition, ...]) -> None:
    with working(bootstrap, topics, definitions=definitions) as thread:
        thread.join(30)
