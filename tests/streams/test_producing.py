"""Delivery to the broker: complete, in order, counted, on the right partition."""

import socket
import time
from uuid import uuid4

import numpy as np
import pytest
from confluent_kafka import Message, TopicPartition

from streams.errors import BrokerError, SourceError
from streams.kafka_client import consumer
from streams.producing import Delivered, Player, SourceProducer
from streams.recording import Recording
from streams.topics import Topics, ensure_topics

PARTITIONS = 3


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    named = Topics(f"t{uuid4().hex[:8]}")
    ensure_topics(bootstrap, named.specs(PARTITIONS))
    return named


def recording(times_ms: list[int], keys: list[bytes | None] | None = None) -> Recording:
    """Events at even times, labels at odd ones."""
    times = np.asarray(times_ms, np.int64)
    return Recording(
        times,
        times % 2 == 1,
        keys or [b"station-%d" % (time // 2 % 10) for time in times_ms],
        [b'{"at":%d}' % time for time in times_ms],
    )


def log_of(bootstrap: str, topic: str) -> "list[list[Message[bytes, bytes]]]":
    """Return all records of each partition."""
    reader = consumer(bootstrap)
    found: list[list[Message[bytes, bytes]]] = []
    try:
        for partition in range(PARTITIONS):
            end = reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1]
            reader.assign([TopicPartition(topic, partition, 0)])
            records: list[Message[bytes, bytes]] = []
            deadline = time.monotonic() + 20
            while len(records) < end and time.monotonic() < deadline:
                records += [m for m in reader.consume(10_000, 0.2) if m.error() is None]
            found.append(records)
    finally:
        reader.close()
    return found


@pytest.mark.broker
def test_every_record_arrives_in_order_with_its_key_time_and_attributes(
    bootstrap: str, topics: Topics
) -> None:
    times = list(range(1_000_000, 1_002_000))
    producer = SourceProducer(bootstrap, topics, "the test")
    producer.send(recording(times))
    assert producer.flush() == Delivered(events=1000, labels=1000)
    for topic, kind, remainder in ((topics.events, "event", 0), (topics.labels, "label", 1)):
        records = log_of(bootstrap, topic)
        assert sorted(
            m.timestamp()[1] for partition in records for m in partition
        ) == [time for time in times if time % 2 == remainder]  # fmt: skip
        for partition in records:
            stamps = [m.timestamp()[1] for m in partition]
            assert stamps == sorted(stamps)
            assert [m.value() for m in partition] == [b'{"at":%d}' % at for at in stamps]
            assert [m.key() for m in partition] == [b"station-%d" % (t // 2 % 10) for t in stamps]
            assert dict(partition[0].headers() or [])  == {
                "ce_specversion": b"1.0",
                "ce_type": f"{topics.name}.{kind}".encode(),
                "ce_source": b"the test",
                "content-type": b"application/json",
            }  # fmt: skip


@pytest.mark.broker
def test_labels_and_events_of_an_entity_share_the_partition_of_javas_clients(
    bootstrap: str, topics: Topics
) -> None:
    from kafka.partitioner.default import murmur2

    producer = SourceProducer(bootstrap, topics)
    producer.send(recording(list(range(2, 202))))
    producer.flush()
    for topic in (topics.events, topics.labels):
        for number, partition in enumerate(log_of(bootstrap, topic)):
            keys = {m.key() for m in partition}
            assert keys
            assert {(murmur2(key) & 0x7FFFFFFF) % PARTITIONS for key in keys} == {number}


@pytest.mark.broker
def test_records_without_a_key_always_go_to_partition_0(bootstrap: str, topics: Topics) -> None:
    producer = SourceProducer(bootstrap, topics)
    producer.send(recording(list(range(0, 200, 2)), [None] * 100))
    producer.flush()
    assert [len(partition) for partition in log_of(bootstrap, topics.events)] == [100, 0, 0]


@pytest.mark.broker
def test_times_that_the_client_would_take_for_now_stay_in_the_past(
    bootstrap: str, topics: Topics
) -> None:
    producer = SourceProducer(bootstrap, topics)
    producer.send(recording([-2, 0], [None, None]))
    producer.flush()
    assert [m.timestamp()[1] for m in log_of(bootstrap, topics.events)[0]] == [1, 1]


@pytest.mark.broker
def test_more_than_the_queue_holds(bootstrap: str, topics: Topics) -> None:
    """The queue takes 200,000 records; sending waits for room and loses nothing."""
    count = 260_000
    producer = SourceProducer(bootstrap, topics)
    times = np.arange(1, count + 1, dtype=np.int64)
    producer.send(Recording(times, np.zeros(count, np.bool_), [b"k"] * count, [b"{}"] * count))
    assert producer.flush() == Delivered(events=count)


@pytest.mark.broker
def test_the_player_stops_before_the_time_given(bootstrap: str, topics: Topics) -> None:
    parts = [recording([10, 11, 12]), recording([]), recording([12, 13, 20]), recording([31])]
    player = Player(parts, SourceProducer(bootstrap, topics))
    assert (player.peek_time_ms(), player.done) == (10, False)
    assert player.play_until(10) == Delivered(0, 0)
    assert player.play_until(12) == Delivered(1, 1)
    assert player.peek_time_ms() == 12
    assert player.play_until(21) == Delivered(3, 1)
    assert (player.peek_time_ms(), player.done) == (31, False)
    assert player.play_until(1000) == Delivered(0, 1)
    assert (player.peek_time_ms(), player.done) == (None, True)
    assert player.delivered == Delivered(4, 3)
    assert player.play_until(2000) == Delivered(0, 0)
    stamps = [m.timestamp()[1] for p in log_of(bootstrap, topics.events) for m in p]
    assert sorted(stamps) == [10, 12, 12, 20]


class Told:
    """In place of the producer: what it was told, in order."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def send(self, part: Recording) -> None:
        if len(part):
            self.calls.append((part.timestamps_ms.tolist(), sorted(set(part.is_label.tolist()))))

    def flush(self) -> Delivered:
        self.calls.append("flush")
        return Delivered()


def test_a_player_may_deliver_the_labels_of_a_stretch_before_its_events() -> None:
    parts = [recording([10, 11, 12]), recording([12, 13, 20])]
    told = Told()
    player = Player(parts, told, labels_first=True)  # type: ignore[arg-type]
    player.play_until(13)
    player.play_until(100)
    labels = [([11], [True]), "flush", ([10, 12], [False]), ([12], [False]), "flush"]
    assert told.calls == [*labels, ([13], [True]), "flush", ([20], [False]), "flush"]


@pytest.mark.broker
def test_a_player_refuses_a_stream_that_goes_back(bootstrap: str, topics: Topics) -> None:
    parts = [recording([10]), recording([8])]
    player = Player(parts, SourceProducer(bootstrap, topics))
    with pytest.raises(SourceError, match="back in time"):
        player.play_until(100)


def test_a_broker_that_is_not_there_is_told_with_what_was_delivered() -> None:
    topics = Topics("absent")
    with socket.socket() as nobody:  # bound but not listening: whoever connects is refused
        nobody.bind(("127.0.0.1", 0))
        producer = SourceProducer(f"127.0.0.1:{nobody.getsockname()[1]}", topics, timeout_s=1.0)
        producer.send(recording([2, 3, 4]))
        with pytest.raises(BrokerError, match=r"0 events of 2 and 0 labels of 1 sent"):
            producer.flush()


@pytest.mark.broker
def test_a_record_that_the_broker_refuses(bootstrap: str, topics: Topics) -> None:
    huge = Recording(np.array([2]), np.array([False]), [b"k"], [b"x" * 5_000_000])
    producer = SourceProducer(bootstrap, topics)
    producer.send(recording([2]))
    with pytest.raises(BrokerError, match=r"too large"):
        producer.send(huge)
