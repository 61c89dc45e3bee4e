"""Fixed stretches of the log, read again: whole, in order, or not at all."""

import threading
import time

import numpy as np
import pytest

from streams import kafka_client, log_reader, replay
from streams.errors import BrokerError
from streams.record_parsing import OldFormatError
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


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_compression_is_read(bootstrap: str, codec: str) -> None:
    topic = new_topic(bootstrap)
    client = kafka_client.producer(bootstrap, compression_type=codec, linger_ms=20)
    values = [b'{"number": %d, "text": "the same again and again"}' % i for i in range(3_000)]
    for i, value in enumerate(values):
        client.produce(topic, value, None if i % 3 else b"k%d" % i, timestamp=5_000 + i)
    assert client.flush(30) == 0
    batches = list(read_ranges(bootstrap, topic, {0: (5, 2_995)}))
    assert [value for batch in batches for value in batch.values] == values[5:2_995]
    keys = [key for batch in batches for key in batch.keys]
    assert keys == [None if i % 3 else b"k%d" % i for i in range(5, 2_995)]
    times = np.concatenate([batch.timestamps_ms for batch in batches])
    np.testing.assert_array_equal(times, np.arange(5_005, 7_995))


def test_the_broker_s_own_time_is_read_where_the_topic_wants_it(bootstrap: str) -> None:
    topic = new_topic(bootstrap, config={"message.timestamp.type": "LogAppendTime"})
    before_ms = int(time.time() * 1000) - 60_000
    append(bootstrap, topic, numbered(5), first_ms=1_000)
    (batch,) = read_ranges(bootstrap, topic, {0: (0, 5)})
    assert batch.timestamps_ms.min() > before_ms


def test_what_compaction_took_away_is_passed(bootstrap: str) -> None:
    compacting = {
        "cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01",
        "min.compaction.lag.ms": "0", "max.compaction.lag.ms": "200",
    }  # fmt: skip
    topic = new_topic(bootstrap, config=compacting)
    now_ms = int(time.time() * 1000)
    append(bootstrap, topic, numbered(50), first_ms=now_ms)
    deadline_s, n = time.monotonic() + 60, 50
    while True:  # the same key each time: all but the newest go, when the broker comes to it
        append(bootstrap, topic, numbered(1, n), first_ms=int(time.time() * 1000))
        n += 1
        batches = list(read_ranges(bootstrap, topic, {0: (0, n)}))
        values = [value for batch in batches for value in batch.values]
        assert values[-1] == str(n - 1).encode()
        if b"0" not in values:
            break
        assert time.monotonic() < deadline_s, "the broker does not compact"
        time.sleep(0.2)
    offsets = np.concatenate([batch.offsets for batch in batches]).tolist()
    assert values == [str(offset).encode() for offset in offsets]
    assert len(offsets) < n
    assert batches[-1].next_offset == n
    assert values_of(bootstrap, topic, {0: (0, 20)}) == []


def test_a_range_stays_what_it_was_while_the_topic_grows(bootstrap: str) -> None:
    topic = new_topic(bootstrap)
    append(bootstrap, topic, numbered(500))
    values: list[bytes | None] = []
    for batch in read_ranges(bootstrap, topic, {0: (0, 500)}):
        values += batch.values
        append(bootstrap, topic, numbered(100, 500))
    assert values == numbered(500)


def test_a_range_that_is_being_written_is_waited_for(bootstrap: str) -> None:
    topic = new_topic(bootstrap)
    append(bootstrap, topic, numbered(5))
    coming = read_ranges(bootstrap, topic, {0: (0, 10)})
    assert next(coming).values == numbered(5)
    append(bootstrap, topic, numbered(5, 5))
    assert [value for batch in coming for value in batch.values] == numbered(5, 5)


def test_an_offset_beyond_the_end_is_an_error(bootstrap: str) -> None:
    topic = new_topic(bootstrap)
    append(bootstrap, topic, numbered(5))
    with pytest.raises(BrokerError, match=rf"{topic} partition 0 ends at offset 5, but 7 is asked"):
        values_of(bootstrap, topic, {0: (7, 9)})


def test_older_message_formats_are_read_too(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OldFormatError

    topic = new_topic(bootstrap)
    append(bootstrap, topic, numbered(60))
    finish(bootstrap, topic, transaction(bootstrap, topic, numbered(3, 60)).commit_transaction)
    finish(bootstrap, topic, transaction(bootstrap, topic, numbered(3, 99)).abort_transaction)
    monkeypatch.setattr(log_reader, "FetchedRecords", refuse)
    monkeypatch.setattr(replay, "MAX_BATCH", 7)
    assert values_of(bootstrap, topic, {0: (8, 52)}) == numbered(44, 8)
    assert values_of(bootstrap, topic, {0: (58, 68)}) == numbered(5, 58)


def test_reading_can_be_broken_off(bootstrap: str) -> None:
    topic = new_topic(bootstrap)
    append(bootstrap, topic, numbered(50))
    threads = set(threading.enumerate())
    coming = read_ranges(bootstrap, topic, {0: (0, 60)})
    next(coming)
    assert set(threading.enumerate()) != threads
    del coming
    assert set(threading.enumerate()) == threads
