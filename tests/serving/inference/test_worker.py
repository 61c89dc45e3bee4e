"""Streaming inference on a real broker: each feature record is answered exactly once."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from features.records import FeatureRows
from serving.inference.answers import Predict
from streams.errors import StateError
from streams.kafka_client import consumer, producer
from streams.topics import Topics
from streams.wire import Activated, Positions, Prediction, Registered, Routing
from tests.serving.feature_stream import (
    PARTITIONS,
    PRIOR,
    T0_MS,
    ConstantModel,
    append,
    committed_answers,
    control_log,
    emit,
    live,
    load,
    new_pipeline,
    registered,
    score_of,
    shadow,
    wait_activated,
    wait_announced,
    wait_drained,
    working,
)

pytestmark = pytest.mark.broker


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    return new_pipeline(bootstrap)


def says(version: int, positions: Positions) -> Activated:
    """Return what the worker says when a version answers all."""
    return Activated(version, "live", "w0", positions, Routing(version), 1)


def ids(answers: list[Prediction]) -> Counter[str]:
    return Counter(answer.event_id for answer in answers)


def once(partitions: int, n: int) -> Counter[str]:
    return Counter(f"e{p}-{i}" for p in range(partitions) for i in range(n))


def test_each_record_is_answered_once_by_the_prior_until_a_model_is_live(
    bootstrap: str, topics: Topics
) -> None:
    for partition in range(PARTITIONS):
        emit(bootstrap, topics, partition, range(300))
    with working(bootstrap, topics, max_batch=64):
        wait_drained(bootstrap, topics)
    answers = committed_answers(bootstrap, topics.predictions)
    assert ids(answers) == once(PARTITIONS, 300)
    assert {(a.score, a.model_version, a.stage) for a in answers} == {(PRIOR, 0, "live")}
    answer = answers[7]
    assert answer.prediction_id == f"{topics.features}-0-7-v0"
    assert (answer.source.partition, answer.source.offset) == (0, 7)
    assert answer.event_time_ms == answer.times.event_ms == T0_MS + 7000
    assert control_log(bootstrap, topics) == []


def test_the_record_names_the_event_its_time_and_its_trace(bootstrap: str, topics: Topics) -> None:
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    emit(
        bootstrap, topics, 1, range(1),
        [("traceparent", trace), ("kappa-featurised-at-ms", b"1577836800123")],
    )  # fmt: skip
    emit(bootstrap, topics, 1, range(1, 2))
    with working(bootstrap, topics):
        wait_drained(bootstrap, topics)
    first, second = raw_records(bootstrap, topics.predictions, 2)
    assert (first.partition(), first.key(), first.timestamp()[1]) == (1, b"shop1", T0_MS)
    headers = dict(first.headers())
    assert headers["ce_id"] == f"{topics.features}-1-0-v0".encode()
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_source"] == f"/{topics.name}/inference".encode()
    assert headers["traceparent"] == trace
    assert "traceparent" not in dict(second.headers())
    answers = committed_answers(bootstrap, topics.predictions)
    assert [a.times.featurised_ms for a in answers] == [1577836800123, None]


def raw_records(bootstrap: str, topic: str, n: int) -> list[Any]:
    client = consumer(bootstrap, group_id="tests", enable_partition_eof=False)
    client.subscribe([topic])
    found: list[Any] = []
    while len(found) < n:
        found += client.consume(n, 0.1)
    client.close()
    return found


def test_what_the_feature_stage_emits_again_is_skipped_and_leaves_no_lag(
    bootstrap: str, topics: Topics
) -> None:
    emit(bootstrap, topics, 0, [*range(50), *range(20, 80)])
    with working(bootstrap, topics, max_batch=30):
        wait_drained(bootstrap, topics)
    # Restarted, and nothing but what was there: the tail is skipped by the metadata alone.
    emit(bootstrap, topics, 0, range(60, 80))
    with working(bootstrap, topics):
        wait_drained(bootstrap, topics)
        emit(bootstrap, topics, 0, range(75, 90))
        wait_drained(bootstrap, topics)
    answers = committed_answers(bootstrap, topics.predictions)
    assert ids(answers) == Counter(f"e0-{i}" for i in range(90))
    assert [a.source.offset for a in answers] == list(range(90))


def test_control_records_at_the_end_leave_no_lag(bootstrap: str, topics: Topics) -> None:
    emit(bootstrap, topics, 0, range(10), transactional_id=topics.name)
    with working(bootstrap, topics):
        wait_drained(bootstrap, topics)
    assert len(committed_answers(bootstrap, topics.predictions)) == 10


def test_a_switch_is_announced_and_each_answer_agrees_with_it(
    bootstrap: str, topics: Topics
) -> None:
    with working(bootstrap, topics):
        emit(bootstrap, topics, 0, range(40))
        wait_drained(bootstrap, topics)
        append(bootstrap, topics, registered(1), live(1))
        activated = wait_activated(bootstrap, topics, 1)
        emit(bootstrap, topics, 0, range(40, 70))
        emit(bootstrap, topics, 1, range(30))
        wait_drained(bootstrap, topics)
    assert activated == says(1, {"0": 40, "1": 0})
    answers = committed_answers(bootstrap, topics.predictions)
    versions = {(a.source.partition, a.source.offset): a.model_version for a in answers}
    assert versions == {
        **{(0, i): 0 for i in range(40)},
        **{(0, i): 1 for i in range(40, 70)},
        **{(1, i): 1 for i in range(30)},
    }
    assert {a.score for a in answers if a.model_version == 1} == {score_of(1)}
    with working(bootstrap, topics):
        emit(bootstrap, topics, 0, range(70, 80))
        wait_drained(bootstrap, topics)
    announced = [e for e in control_log(bootstrap, topics) if isinstance(e, Activated)]
    assert announced == [activated]  # a restarted worker does not say it again


def test_a_switch_under_load_happens_where_the_control_log_says(
    bootstrap: str, topics: Topics
) -> None:
    with working(bootstrap, topics, max_batch=20):
        for start in range(0, 2000, 500):
            for partition in range(PARTITIONS):
                emit(bootstrap, topics, partition, range(start, start + 500))
            append(bootstrap, topics, registered(start // 500 + 1), live(start // 500 + 1))
        wait_activated(bootstrap, topics, 4)
        wait_drained(bootstrap, topics)
    answers = committed_answers(bootstrap, topics.predictions)
    assert ids(answers) == once(PARTITIONS, 2000)
    since = {
        e.version: e.positions for e in control_log(bootstrap, topics) if isinstance(e, Activated)
    }
    for answer in answers:
        features_offset = int(answer.prediction_id.rsplit("-", 2)[1])
        key = str(answer.source.partition)
        begun = [0, *(v for v, at in sorted(since.items()) if at[key] <= features_offset)]
        assert answer.model_version == begun[-1]


def test_going_back_to_a_version_is_announced_again(bootstrap: str, topics: Topics) -> None:
    with working(bootstrap, topics):
        append(bootstrap, topics, registered(1), live(1))
        wait_activated(bootstrap, topics, 1)
        append(bootstrap, topics, registered(2), live(2))
        wait_activated(bootstrap, topics, 2)
        emit(bootstrap, topics, 0, range(10))
        wait_drained(bootstrap, topics)
        append(bootstrap, topics, live(1))
        wait_announced(bootstrap, topics, says(1, {"0": 10, "1": 0}))
        emit(bootstrap, topics, 0, range(10, 20))
        wait_drained(bootstrap, topics)
    answers = committed_answers(bootstrap, topics.predictions)
    assert [a.model_version for a in answers] == [2] * 10 + [1] * 10


def test_a_package_that_does_not_load_leaves_the_old_model_answering(
    bootstrap: str, topics: Topics
) -> None:
    def damaged(event: Registered) -> Predict:
        if event.version == 2:
            raise OSError("weights.safetensors: checksum differs")
        return load(event)

    with working(bootstrap, topics, loader=damaged):
        append(bootstrap, topics, registered(1), live(1))
        wait_activated(bootstrap, topics, 1)
        append(bootstrap, topics, registered(2), live(2), registered(3), live(3))
        wait_activated(bootstrap, topics, 3)  # it went on following the log
        append(bootstrap, topics, registered(2), live(2))
        emit(bootstrap, topics, 0, range(10))
        wait_drained(bootstrap, topics)
    answers = committed_answers(bootstrap, topics.predictions)
    assert {a.model_version for a in answers} <= {3}
    assert len(answers) == 10


def test_a_model_that_fails_while_answering_hands_over_to_the_one_before(
    bootstrap: str, topics: Topics
) -> None:
    def nan(rows: FeatureRows) -> NDArray[np.float64]:
        return np.full(len(rows), np.nan)

    def fragile(event: Registered) -> Predict:
        return nan if event.version == 2 else ConstantModel(0.5)

    with working(bootstrap, topics, loader=fragile):
        append(bootstrap, topics, registered(1), live(1))
        wait_activated(bootstrap, topics, 1)
        append(bootstrap, topics, registered(2), live(2))
        wait_activated(bootstrap, topics, 2)
        emit(bootstrap, topics, 0, range(10))
        emit(bootstrap, topics, 1, range(10))
        wait_drained(bootstrap, topics)
    answers = committed_answers(bootstrap, topics.predictions)
    assert ids(answers) == once(PARTITIONS, 10)
    assert {(a.model_version, a.score) for a in answers} == {(1, 0.5)}
    last = [e for e in control_log(bootstrap, topics) if isinstance(e, Activated)][-1]
    assert last == says(1, {"0": 0, "1": 0})


def test_shadow_answers_from_since_on_and_commits_also_when_there_is_none(
    bootstrap: str, topics: Topics
) -> None:
    with working(bootstrap, topics, role="shadow", worker="s0"):
        emit(bootstrap, topics, 0, range(30))
        emit(bootstrap, topics, 1, range(10))
        wait_drained(bootstrap, topics, "shadow")
        assert committed_answers(bootstrap, topics.shadow) == []
        append(
            bootstrap, topics, registered(1), registered(2),
            shadow(1, {"0": 45, "1": 10}), shadow(2, {"0": 50, "1": 10}),
        )  # fmt: skip
        wait_activated(bootstrap, topics, 2)
        emit(bootstrap, topics, 0, range(30, 60))
        wait_drained(bootstrap, topics, "shadow")
    answers = committed_answers(bootstrap, topics.shadow)
    by_version = {
        version: [a.source.offset for a in answers if a.model_version == version]
        for version in (1, 2)
    }
    assert by_version == {1: list(range(45, 60)), 2: list(range(50, 60))}
    assert {(a.stage, a.score) for a in answers} == {("shadow", 0.01), ("shadow", 0.02)}
    assert len({a.prediction_id for a in answers}) == len(answers)
    announced = [e for e in control_log(bootstrap, topics) if isinstance(e, Activated)]
    assert announced == [
        Activated(1, "shadow", "s0", {"0": 45, "1": 10}),
        Activated(2, "shadow", "s0", {"0": 50, "1": 10}),
    ]
    assert committed_answers(bootstrap, topics.predictions) == []


def test_two_workers_share_the_partitions_and_still_answer_once(
    bootstrap: str, topics: Topics
) -> None:
    append(bootstrap, topics, registered(1), live(1))
    with working(bootstrap, topics, worker="w0", max_batch=50):
        for partition in range(PARTITIONS):
            emit(bootstrap, topics, partition, range(1000))
        with working(bootstrap, topics, worker="w1", max_batch=50):
            for partition in range(PARTITIONS):
                emit(bootstrap, topics, partition, range(1000, 3000))
            wait_drained(bootstrap, topics)
    assert ids(committed_answers(bootstrap, topics.predictions)) == once(PARTITIONS, 3000)


def test_a_foreign_record_ends_the_worker_with_a_message(bootstrap: str, topics: Topics) -> None:
    emit(bootstrap, topics, 0, range(5))
    client = producer(bootstrap)
    client.produce(topics.features, b'{"not": "a feature record"}', b"k", 0)
    assert client.flush(30) == 0
    match = rf"{topics.features}.*partition 0.*offset 5"
    with pytest.raises(StateError, match=match), working(bootstrap, topics) as thread:
        thread.join(30)
    answered = committed_answers(bootstrap, topics.predictions)
    assert len(answered) in (0, 5), "those before it, where they came in a batch of their own"
