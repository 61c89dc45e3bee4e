"""Positions, ends and lag, as the drained state is judged by them."""

import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import TopicPartition

from streams.errors import BrokerError
from streams.kafka_client import consumer
from streams.positions import PositionReader
from tests.streams.log_of_records import append, finish, new_topic, transaction

pytestmark = pytest.mark.broker


@pytest.fixture
def positions(bootstrap: str) -> Iterator[PositionReader]:
    reader = PositionReader(bootstrap)
    yield reader
    reader.close()


def commit(bootstrap: str, group: str, topic: str, offsets: dict[int, int]) -> None:
    client = consumer(bootstrap, group_id=group)
    try:
        client.commit(
            offsets=[TopicPartition(topic, p, o) for p, o in offsets.items()], asynchronous=False
        )
    finally:
        client.close()


def test_a_group_that_never_committed_is_behind_by_everything(
    bootstrap: str, positions: PositionReader
) -> None:
    topic, group = new_topic(bootstrap, partitions=2), f"g{uuid.uuid4().hex[:8]}"
    append(bootstrap, topic, [b"x"] * 3, partition=0)
    append(bootstrap, topic, [b"x"] * 4, partition=1)
    assert positions.ends({topic: 2}) == {topic: {0: 3, 1: 4}}
    assert positions.committed(group) == {}
    assert positions.lag(group, {topic: 2}) == {topic: 7}


def test_lag_is_what_is_not_committed_yet(bootstrap: str, positions: PositionReader) -> None:
    one, other = new_topic(bootstrap, partitions=2), new_topic(bootstrap)
    group = f"g{uuid.uuid4().hex[:8]}"
    append(bootstrap, one, [b"x"] * 5, partition=0)
    append(bootstrap, one, [b"x"] * 5, partition=1)
    append(bootstrap, other, [b"x"] * 2)
    commit(bootstrap, group, one, {0: 5, 1: 2})
    assert positions.committed(group) == {one: {0: 5, 1: 2}}
    assert positions.lag(group, {one: 2, other: 1}) == {one: 3, other: 2}
    commit(bootstrap, group, one, {1: 5})
    commit(bootstrap, group, other, {0: 2})
    assert positions.lag(group, {one: 2, other: 1}) == {one: 0, other: 0}


def test_the_end_is_the_one_of_read_committed_readers(
    bootstrap: str, positions: PositionReader
) -> None:
    topic = new_topic(bootstrap)
    append(bootstrap, topic, [b"x"] * 2)
    pending = transaction(bootstrap, topic, [b"y"] * 3)
    assert positions.ends({topic: 1}) == {topic: {0: 2}}
    finish(bootstrap, topic, pending.commit_transaction)
    assert positions.ends({topic: 1}) == {topic: {0: 6}}  # with the control record


def test_what_a_transaction_has_written_counts_as_lag_before_it_can_be_read(
    bootstrap: str, positions: PositionReader
) -> None:
    """Else a stage would pass for drained while the stage before it is committing."""
    topic, group = new_topic(bootstrap), f"g{uuid.uuid4().hex[:8]}"
    append(bootstrap, topic, [b"x"] * 2)
    commit(bootstrap, group, topic, {0: 2})
    pending = transaction(bootstrap, topic, [b"y"] * 3)
    assert positions.lag(group, {topic: 1}) == {topic: 3}
    finish(bootstrap, topic, pending.commit_transaction)
    assert positions.lag(group, {topic: 1}) == {topic: 4}


def test_an_empty_topic_has_no_lag(bootstrap: str, positions: PositionReader) -> None:
    topic = new_topic(bootstrap)
    assert positions.lag(f"g{uuid.uuid4().hex[:8]}", {topic: 1}) == {topic: 0}


def test_a_topic_that_is_not_there_is_an_error(positions: PositionReader) -> None:
    with pytest.raises(BrokerError, match=r"ends of \['not.there'\]"):
        positions.ends({"not.there": 1})
