"""Fixed stretches of the log, read again: whole, in order, or not at all."""

import numpy as np
import pytest

from streams import kafka_client, replay
from streams.errors import BrokerError
from streams.replay import offset_bounds, offsets_at, read_ranges
from streams.topics import connect_admin
from tests.streams.log_of_records import append, finish, new_topic, transaction

pytestmark = pytest.mark.broker


def values_of(bootstrap: str, topic: str, ranges: dict[int, tuple[int, int]]) -> list[bytes | None]:
    return [v for batch in read_ranges(bootstrap, topic, ranges) for v in batch.values]


def numbered(n: int, first: int = 0) -> list[bytes]:
    return [str(i).encode() for i in range(first, first + n)]


def test_a_range_comes_whole_in_order_with_its_times(bootstrap: str) -> None:
    topic = new_topic(bootstrap)
    append(bootstrap, topic, numbered(100))
    batches = list(read_ranges(bootstrap, topic, {0: (20, 90)}))
    assert [v for batch in batches for v in batch.values] == numbered(70, 20)
    offsets = np.concatenate([batch.offsets for batch in batches])
    np.testing.assert_array_equal(offsets, np.arange(20, 90))
    times = np.concatenate([batch.timestamps_ms for batch in batches])
    np.testing.assert_array_equal(times, 1_000 + 10 * np.arange(20, 90))
    assert {key for batch in batches for key in batch.keys} == {b"k"}
    assert batches[-1].next_offset == 90
    assert {(batch.topic, batch.partition) for batch in batches} == {(topic, 0)}


def test_partitions_come_one_after_the_other(bootstrap: str) -> None:
    topic = new_topic(bootstrap, partitions=3)
    for partition in (2, 0):
        append(bootstrap, topic, numbered(50, 1000 * partition), partition)
    ranges = {2: (0, 50), 1: (0, 0), 0: (10, 50)}
    batches = list(read_ranges(bootstrap, topic, ranges))
    assert [batch.partition for batch in batches] == sorted(batch.partition for batch in batches)
    got = [v for batch in batches for v in batch.values]
    assert got == numbered(40, 10) + numbered(50, 2000)


def test_only_what_was_committed_is_read(bootstrap: str) -> None:
    topic = new_topic(bootstrap)
    finish(bootstrap, topic, transaction(bootstrap, topic, numbered(3)).commit_transaction)
    finish(bootstrap, topic, transaction(bootstrap, topic, numbered(3, 100)).abort_transaction)
    append(bootstrap, topic, numbered(2, 200))
    bounds = offset_bounds(bootstrap, topic, 1)
    assert bounds == {0: (0, 3 + 1 + 3 + 1 + 2)}
    assert values_of(bootstrap, topic, bounds) == numbered(3) + numbered(2, 200)


def test_a_range_that_ends_with_control_records_ends(bootstrap: str) -> None:
    topic = new_topic(bootstrap)
    finish(bootstrap, topic, transaction(bootstrap, topic, numbered(3)).commit_transaction)
    finish(bootstrap, topic, transaction(bootstrap, topic, numbered(5, 9)).abort_transaction)
    assert values_of(bootstrap, topic, {0: (0, 10)}) == numbered(3)
    assert values_of(bootstrap, topic, {0: (3, 10)}) == []


def test_an_open_transaction_bounds_what_can_be_read(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic(bootstrap)
    append(bootstrap, topic, numbered(4))
    pending = transaction(bootstrap, topic, numbered(3, 50))
    assert offset_bounds(bootstrap, topic, 1) == {0: (0, 4)}
    assert values_of(bootstrap, topic, {0: (0, 4)}) == numbered(4)
    # A range is read whole or not at all: its end was not reached, and that is no end.
    monkeypatch.setattr(replay, "STALL_S", 2.0)
    with pytest.raises(BrokerError, match=r"no record for 2 s before offset 7"):
        values_of(bootstrap, topic, {0: (0, 7)})
    finish(bootstrap, topic, pending.commit_transaction)
    assert values_of(bootstrap, topic, {0: (0, 7)}) == numbered(4) + numbered(3, 50)


def test_records_that_were_deleted_are_missed(bootstrap: str) -> None:
    topic = new_topic(bootstrap)
    append(bootstrap, topic, numbered(10))
    from kafka import TopicPartition

    admin = connect_admin(bootstrap)
    try:
        admin.delete_records({TopicPartition(topic, 0): 6})
    finally:
        admin.close()
    assert offset_bounds(bootstrap, topic, 1) == {0: (6, 10)}
    assert values_of(bootstrap, topic, {0: (6, 10)}) == numbered(4, 6)
    with pytest.raises(BrokerError, match=rf"{topic} partition 0 begins at offset 6, .* 2 .*gone"):
        values_of(bootstrap, topic, {0: (2, 10)})


def test_offsets_are_found_by_event_time(bootstrap: str) -> None:
    topic = new_topic(bootstrap, partitions=2)
    append(bootstrap, topic, numbered(10), partition=0, first_ms=1_000)
    append(bootstrap, topic, numbered(10), partition=1, first_ms=1_055)
    assert offsets_at(bootstrap, topic, 2, 0) == {0: 0, 1: 0}
    assert offsets_at(bootstrap, topic, 2, 1_045) == {0: 5, 1: 0}
    assert offsets_at(bootstrap, topic, 2, 1_090) == {0: 9, 1: 4}
    assert offsets_at(bootstrap, topic, 2, 9_999) == {0: 10, 1: 10}


def test_more_than_one_batch_comes_whole(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_BATCH", 7)
    topic = new_topic(bootstrap)
    append(bootstrap, topic, numbered(50))
    batches = list(read_ranges(bootstrap, topic, {0: (0, 50)}))
    assert max(map(len, batches)) <= 7
    assert [v for batch in batches for v in batch.values] == numbered(50)


def test_a_topic_that_is_not_there_is_an_error(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_client, "LEADER_TIMEOUT_S", 0.5)
    with pytest.raises(BrokerError, match="can't be read"):
        offset_bounds(bootstrap, "not.there", 1)
    with pytest.raises(BrokerError, match="can't be read"):
        values_of(bootstrap, "not.there", {0: (0, 1)})
