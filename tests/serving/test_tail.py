"""The newest predictions and those that come, beside control records that take offsets."""

import pytest

from serving.tail import coming_predictions, newest_predictions
from streams.topics import Topics
from streams.wire import Prediction
from tests.serving.feature_stream import PARTITIONS, emit, new_pipeline, wait_drained, working

pytestmark = pytest.mark.broker


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    return new_pipeline(bootstrap)


def events(found: list[Prediction]) -> list[str]:
    return [prediction.event_id for prediction in found]


def test_the_newest_by_event_time_though_each_is_a_transaction(
    bootstrap: str, topics: Topics
) -> None:
    emit(bootstrap, topics, 0, range(30))
    emit(bootstrap, topics, 1, range(10, 20))
    with working(bootstrap, topics, max_batch=2):
        wait_drained(bootstrap, topics)
    newest = newest_predictions(bootstrap, topics.predictions, PARTITIONS, 12)
    assert events(newest) == ["e0-19", "e1-19", *(f"e0-{i}" for i in range(20, 30))]
    everything = newest_predictions(bootstrap, topics.predictions, PARTITIONS, None)
    assert len(everything) == 40
    assert everything[-12:] == newest


def test_an_empty_topic_has_none(bootstrap: str, topics: Topics) -> None:
    assert newest_predictions(bootstrap, topics.shadow, PARTITIONS, 5) == []


def test_what_comes_is_yielded_up_to_the_limit(bootstrap: str, topics: Topics) -> None:
    with working(bootstrap, topics):
        emit(bootstrap, topics, 0, range(5))
        wait_drained(bootstrap, topics)
        coming = coming_predictions(bootstrap, topics.predictions, PARTITIONS, 4)
        emit(bootstrap, topics, 0, range(5, 10))
        seen = [prediction for came in coming for prediction in came]
    assert events(seen) == ["e0-5", "e0-6", "e0-7", "e0-8"]
