from collections.abc import Callable
from uuid import uuid4

import msgspec
import numpy as np
import pytest

from serving.auditing.audit import Audit, audit_partition, repeated, run_audit
from streams.control import ControlWriter
from streams.dead_letters import DeadLetter
from streams.kafka_client import producer
from streams.topics import Topics, dead_letter_topic, ensure_topics
from streams.wire import (
    DefinitionActivated,
    DefinitionChanged,
    ModelEvent,
    Prediction,
    Source,
    Times,
)

PARTITIONS = 2


def _offsets(*offsets: int) -> "np.ndarray":
    return np.array(offsets, dtype=np.int64)


def test_each_problem_is_found_where_it_stands() -> None:
    account = audit_partition(
        1, _offsets(0, 1, 2, 3, 4), answered=_offsets(0, 2, 2, 4, 9), dead=_offsets(3, 4)
    )

    assert account.lost == [1]
    assert account.doubled == [2]
    assert account.both == [4]
    assert account.orphans == [9]
    assert not account.ok
    assert (account.events, account.predictions, account.dead_letters) == (5, 5, 2)


def test_a_loss_and_a_double_do_not_cancel_each_other() -> None:
    account = audit_partition(0, _offsets(0, 1), answered=_offsets(0, 0), dead=_offsets())

    assert (account.lost, account.doubled) == ([1], [0])
    assert not Audit([account], []).ok


def test_a_full_account_adds_up_and_says_so() -> None:
    account = audit_partition(0, _offsets(0, 1, 2), _offsets(0, 2), _offsets(1))
    audit = Audit([account], [])

    assert audit.ok
    assert audit.lines == [
        "3 events = 2 predictions + 1 dead letters; each event has exactly one answer"
    ]


def test_an_event_id_answered_twice_is_told() -> None:
    account = audit_partition(0, _offsets(0, 1), _offsets(0, 1), _offsets())
    audit = Audit([account], repeated(["a", "a", "b"]))

    assert audit.repeated_ids == ["a"]
    assert not audit.ok


def test_an_answer_of_the_wrong_definition_is_told_and_the_turns_are_shown() -> None:
    events, by = _offsets(0, 1, 2, 3, 4), _offsets(1, 1, 2, 1, 2)
    due = _offsets(1, 1, 2, 2, 2)
    account = audit_partition(0, events, events, _offsets(), by, due)
    audit = Audit([account], [])

    assert account.misplaced == [3]
    assert not audit.ok
    assert [(s.definition, s.first, s.last, s.n) for s in account.answered_by] == [
        (1, 0, 1, 2), (2, 2, 2, 1), (1, 3, 3, 1), (2, 4, 4, 1),
    ]  # fmt: skip
    assert audit.lines[1:] == [
        "partition 0: 1 events answered by another definition than the control log says, offsets 3",
        "partition 0: definition v1 answered offsets 0 to 1, definition v2 answered offsets 2 to 2"
        ", definition v1 answered offsets 3 to 3, definition v2 answered offsets 4 to 4",
    ]
    assert audit_partition(0, events, events, _offsets(), due, due).ok


class _Pipeline:
    """Topics with 10 events per partition, of which offset 3 is a dead letter."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap, self.topics = bootstrap, Topics(f"t{uuid4().hex[:8]}")
        ensure_topics(bootstrap, self.topics.specs(PARTITIONS))
        self._producer = producer(bootstrap, linger_ms=0)
        for partition in range(PARTITIONS):
            for offset in range(10):
                self._producer.produce(self.topics.events, b"{}", b"k", partition)
                if offset == 3:
                    self.dead_letter(partition, offset)
        self.flush()

    def dead_letter(self, partition: int, offset: int) -> None:
        dead = DeadLetter("DecodeError", "why", self.topics.events, partition, offset, b"k", b"", 1)
        value, key, headers = dead.to_record()
        topic = dead_letter_topic(self.topics.events)
        self._producer.produce(topic, value, key, headers=[*headers])

    def answer(self, wanted: Callable[[int, int], int]) -> None:
        """Append predictions in a transaction: as many per event as ``wanted`` says."""
        client = producer(self.bootstrap, transactional_id=uuid4().hex)
        client.init_transactions(30)
        client.begin_transaction()
        for partition in range(PARTITIONS):
            for offset in range(10):
                for _ in range(wanted(partition, offset)):
                    value = msgspec.json.encode(_prediction(partition, offset))
                    client.produce(self.topics.predictions, value, b"k", partition)
        client.commit_transaction(30)

    def abort_some(self) -> None:
        """Append predictions in a transaction that is aborted."""
        client = producer(self.bootstrap, transactional_id=uuid4().hex)
        client.init_transactions(30)
        client.begin_transaction()
        value = msgspec.json.encode(_prediction(0, 0))
        client.produce(self.topics.predictions, value, b"k", 0)
        client.flush(30)
        client.abort_transaction(30)

    def flush(self) -> None:
        assert self._producer.flush(30) == 0

    def audit(self) -> Audit:
        return run_audit(self.bootstrap, self.topics, PARTITIONS)


def _prediction(partition: int, offset: int) -> Prediction:
    return Prediction(
        prediction_id=f"f-{partition}-{offset}-v0",
        event_id=f"{partition}-{offset}",
        entity="k",
        score=0.5,
        model_version=0,
        stage="live",
        definition=1,
        event_time_ms=1,
        source=Source(partition, offset),
        times=Times(1, None, 1),
    )


def _all(partition: int, offset: int) -> int:
    return 0 if offset == 3 else 1


@pytest.fixture
def pipeline(bootstrap: str) -> _Pipeline:
    return _Pipeline(bootstrap)


@pytest.mark.broker
def test_a_whole_log_adds_up(pipeline: _Pipeline) -> None:
    pipeline.answer(_all)
    pipeline.abort_some()
    pipeline.dead_letter(1, 3)  # a restarted worker wrote it again
    pipeline.flush()

    audit = pipeline.audit()

    assert audit.ok
    assert (audit.events, audit.predictions, audit.dead_letters) == (20, 18, 2)
    assert audit.repeated_dead_letters == 1


@pytest.mark.broker
def test_a_lost_prediction_is_reported(pipeline: _Pipeline) -> None:
    pipeline.answer(lambda p, o: 0 if (p, o) == (1, 5) else _all(p, o))

    audit = pipeline.audit()

    assert not audit.ok
    assert [p.lost for p in audit.partitions] == [[], [5]]
    assert audit.lines[0] == "20 events ≠ 17 predictions + 2 dead letters"
    assert audit.lines[1].startswith("partition 1: 1 events without any answer")


@pytest.mark.broker
def test_an_order_that_the_answers_do_not_follow_is_reported(pipeline: _Pipeline) -> None:
    pipeline.answer(_all)
    writer = ControlWriter(pipeline.bootstrap)
    events: list[ModelEvent] = [
        DefinitionChanged(1, 2, 1, 0, PARTITIONS, "a test"),
        DefinitionActivated(1, 2, 1, {"1": 8}, "w0"),
    ]
    for event in events:
        writer.append_model_event(pipeline.topics.models, event)

    audit = pipeline.audit()

    assert not audit.ok
    assert [p.misplaced for p in audit.partitions] == [[], [8, 9]]


@pytest.mark.broker
def test_a_doubled_prediction_is_reported(pipeline: _Pipeline) -> None:
    pipeline.answer(lambda p, o: 2 if (p, o) == (0, 7) else _all(p, o))

    audit = pipeline.audit()

    assert not audit.ok
    assert [p.doubled for p in audit.partitions] == [[7], []]
    assert audit.repeated_ids == ["0-7"]


@pytest.mark.broker
def test_a_pipeline_without_events_adds_up(bootstrap: str) -> None:
    topics = Topics(f"t{uuid4().hex[:8]}")
    ensure_topics(bootstrap, topics.specs(PARTITIONS))

    assert run_audit(bootstrap, topics, PARTITIONS).ok
