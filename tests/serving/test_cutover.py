"""The switch from one definition to another, on a real broker: each event is answered once."""

import threading
import time
from collections import Counter

import pytest

from streams.cutover import Cutovers, Span
from streams.topics import Topics
from streams.wire import DefinitionChanged, Positions, Prediction
from tests.serving.feature_stream import (
    DEFINITION,
    PARTITIONS,
    V2,
    append,
    committed_answers,
    emit,
    live,
    new_pipeline,
    registered,
    wait_activated,
    wait_drained,
    wait_switched,
    working,
)

pytestmark = pytest.mark.broker

BOTH = (DEFINITION, V2)


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
