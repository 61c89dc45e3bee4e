"""Batches made in bulk, on a real broker: readable by every client, in order, once, no gap."""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, RequestTimedOutError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition
from confluent_kafka import TopicPartition as Place
from kafka import KafkaConsumer
from kafka import TopicPartition as KafkaPartition

from streams import batch_producer, kafka_client
from streams.batch_producer import BatchProducer
from streams.byte_columns import ByteColumn
from streams.errors import BrokerError
from streams.record_batch import RecordBatch, encode_batches
from streams.replay import offset_bounds, read_ranges
from tests.streams.log_of_records import new_topic

pytestmark = pytest.mark.broker

Record = tuple[bytes | None, bytes | None, int, list[tuple[str, bytes | None]]]

TIMEOUT_S = 20.0
FIXED = [("ce_type", b"test"), ("content-type", b"application/json")]


@contextmanager
def batch_client(bootstrap: str) -> Iterator[BatchProducer]:
    client = BatchProducer(bootstrap)
    try:
        yield client
    finally:
        client.close()


def numbered(n: int, first: int = 0, compression: str | None = "lz4") -> list[RecordBatch]:
    """Return records whose values are the numbers from ``first`` on, 100 in a batch."""
    values = ByteColumn.of([str(i).encode() for i in range(first, first + n)])
    times = 1_000 + np.arange(first, first + n)
    batches = [
        encode_batches(part, part, times[i : i + 100], FIXED, compression=compression)
        for i in range(0, n, 100)
        for part in [
            ByteColumn(values.data, values.starts[i : i + 100], values.lengths[i : i + 100])
        ]
    ]
    return [batch for made in batches for batch in made]


def numbers(bootstrap: str, topic: str, partitions: int = 1) -> list[list[int]]:
    """Return the numbers that stand in each partition."""
    found: list[list[int]] = [[] for _ in range(partitions)]
    for batch in read_ranges(bootstrap, topic, offset_bounds(bootstrap, topic, partitions)):
        found[batch.partition] += [int(value or b"-1") for value in batch.values]
    return found


def by_confluent(bootstrap: str, topic: str, n: int) -> list[Record]:
    with closing(kafka_client.consumer(bootstrap)) as client:
        client.assign([Place(topic, 0, 0)])
        messages: list[Any] = []
        while len(messages) < n:
            found = client.consume(n, 1.0)
            messages += [message for message in found if message.error() is None]
        return [(m.key(), m.value(), m.timestamp()[1], m.headers() or []) for m in messages]


def by_kafka_python(bootstrap: str, topic: str, n: int) -> list[Record]:
    client = KafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    try:
        client.assign([KafkaPartition(topic, 0)])
        records: list[Any] = []
        while len(records) < n:
            records += [r for found in client.poll(500).values() for r in found]
        return [(r.key, r.value, r.timestamp, list(r.headers)) for r in records]
    finally:
        client.close()


def by_aiokafka(bootstrap: str, topic: str, n: int) -> list[Record]:
    async def read() -> list[Record]:
        client = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
        await client.start()
        try:
            client.assign([TopicPartition(topic, 0)])
            records = [await client.getone() for _ in range(n)]
        finally:
            await client.stop()
        return [(r.key, r.value, r.timestamp, list(r.headers)) for r in records]

    return asyncio.run(read())


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_every_client_reads_what_another_producer_would_have_written(
    bootstrap: str, compression: str | None
) -> None:
    records: list[Record] = [
        (None if i % 5 == 0 else b"k%d" % i, None if i % 7 == 1 else b"v" * i, 5_000 - 3 * i,
         [*FIXED, ("ce_id", f"é{i}".encode()), *([("traceparent", b"00-a")] if i % 3 else [])])
        for i in range(300)
    ]  # fmt: skip
    ours, theirs = new_topic(bootstrap), new_topic(bootstrap)
    keys, values, times, _ = zip(*records, strict=True)
    batches = encode_batches(
        ByteColumn.of(keys), ByteColumn.of(values), np.array(times), FIXED,
        [("ce_id", ByteColumn.of_texts([f"é{i}" for i in range(300)])),
         ("traceparent", ByteColumn.of([b"00-a" if i % 3 else None for i in range(300)]))],
        compression, max_bytes=5_000,
    )  # fmt: skip
    assert len(batches) > 3
    with batch_client(bootstrap) as client:
        client.send(ours, 0, lambda: batches).result(TIMEOUT_S)
    producer = kafka_client.producer(bootstrap)
    for key, value, at, headers in records:
        producer.produce(theirs, value, key, 0, timestamp=at, headers=list(headers))
    assert producer.flush(TIMEOUT_S) == 0
    for read in (by_confluent, by_kafka_python, by_aiokafka):
        assert read(bootstrap, ours, 300) == read(bootstrap, theirs, 300) == records


def test_partitions_keep_their_order_and_nothing_is_lost(bootstrap: str) -> None:
    topic = new_topic(bootstrap, partitions=3)
    with batch_client(bootstrap) as client:
        sent = [
            client.send(topic, partition, partial(numbered, 250, 250 * i))
            for i in range(10)
            for partition in range(3)
        ]
        for future in sent:
            future.result(TIMEOUT_S)
        assert numbers(bootstrap, topic, 3) == [list(range(2_500))] * 3


def test_acknowledged_means_that_it_can_be_read(bootstrap: str) -> None:
    topic = new_topic(bootstrap)
    with batch_client(bootstrap) as client:
        for i in range(5):
            client.send(topic, 0, partial(numbered, 10, 10 * i)).result(TIMEOUT_S)
            assert numbers(bootstrap, topic) == [list(range(10 * i + 10))]


def test_what_is_sent_again_stands_once_and_in_order(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers get lost, and requests before they reach the broker, in turn."""
    send, requests = AIOKafkaClient.send, 0

    async def lossy(self: AIOKafkaClient, node: int, request: Any, **options: Any) -> Any:
        nonlocal requests
        if not isinstance(request, ProduceRequest):
            return await send(self, node, request, **options)
        requests += 1
        if requests % 3 == 1:
            raise KafkaConnectionError("before")
        answer = await send(self, node, request, **options)
        if requests % 3 == 2:
            raise RequestTimedOutError("after")
        return answer

    monkeypatch.setattr(AIOKafkaClient, "send", lossy)
    topic = new_topic(bootstrap, partitions=2)
    with batch_client(bootstrap) as client:
        sent = [
            client.send(topic, partition, partial(numbered, 200, 200 * i))
            for i in range(4)
            for partition in range(2)
        ]
        for future in sent:
            future.result(TIMEOUT_S)
    assert requests > 12
    assert numbers(bootstrap, topic, 2) == [list(range(800))] * 2


def test_after_a_failure_nothing_later_stands_in_the_topic(bootstrap: str) -> None:
    topic = new_topic(bootstrap, partitions=2, config={"max.message.bytes": "3000"})
    large = ByteColumn.of([b"7" * 4_000])

    def refused() -> list[RecordBatch]:
        return encode_batches(large, large, np.array([1]))

    with batch_client(bootstrap) as client:
        # The very first batch of a producer: the broker itself would accept what follows it.
        first = client.send(topic, 0, refused)
        later = [client.send(topic, 0, partial(numbered, 5, 5 * i)) for i in range(3)]
        with pytest.raises(BrokerError, match=f"{topic} partition 0 .*MessageSizeTooLarge"):
            first.result(TIMEOUT_S)
        for future in [*later, client.send(topic, 1, partial(numbered, 5))]:
            with pytest.raises(BrokerError, match="MessageSizeTooLarge"):
                future.result(TIMEOUT_S)
    assert numbers(bootstrap, topic, 2) == [[], []]
    with batch_client(bootstrap) as client:
        client.send(topic, 0, partial(numbered, 5)).result(TIMEOUT_S)
        failing = client.send(topic, 0, lambda: [*numbered(5, 5), *refused(), *numbered(5, 10)])
        with pytest.raises(BrokerError):
            failing.result(TIMEOUT_S)
    assert numbers(bootstrap, topic, 2) == [list(range(10)), []]


def test_sequence_numbers_begin_anew(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = new_topic(bootstrap)
    start = batch_producer._start

    async def late(bootstrap: str) -> AIOKafkaProducer:
        producer = await start(bootstrap)
        producer._txn_manager._sequence_numbers[TopicPartition(topic, 0)] = 2**31 - 150
        return producer

    monkeypatch.setattr(batch_producer, "_start", late)
    with batch_client(bootstrap) as client:
        for i in range(4):
            client.send(topic, 0, partial(numbered, 100, 100 * i)).result(TIMEOUT_S)
    assert numbers(bootstrap, topic) == [list(range(400))]


def test_what_can_not_be_made_fails(bootstrap: str) -> None:
    def broken() -> Sequence[RecordBatch]:
        raise ValueError("no such thing")

    with batch_client(bootstrap) as client, pytest.raises(BrokerError, match="no such thing"):
        client.send("t", 0, broken).result(TIMEOUT_S)


def test_a_broker_that_is_not_there_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    with batch_client(f"127.0.0.1:{free}") as client, pytest.raises(BrokerError, match="t part"):
        client.send("t", 0, partial(numbered, 5)).result(TIMEOUT_S)


def test_closing_gives_up_what_is_not_acknowledged(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = AIOKafkaClient.send

    async def deaf(self: AIOKafkaClient, node: int, request: Any, **options: Any) -> Any:
        if isinstance(request, ProduceRequest):
            raise KafkaConnectionError("always")
        return await send(self, node, request, **options)

    monkeypatch.setattr(AIOKafkaClient, "send", deaf)
    monkeypatch.setattr(batch_producer, "CLOSE_TIMEOUT_S", 0.5)
    topic = new_topic(bootstrap)
    with batch_client(bootstrap) as client:
        sent = client.send(topic, 0, partial(numbered, 5))
        idle = client.send(topic, 0, list)
    for future in (sent, idle):
        with pytest.raises(BrokerError, match="closed before"):
            future.result(0)
