"""Topics filled for a test: plain, transactional, aborted, open."""

import time
import uuid
from collections.abc import Callable, Sequence

from confluent_kafka import Producer
from kafka.protocol.consumer.offsets import IsolationLevel

from streams.kafka_client import producer
from streams.positions import PositionReader
from streams.topics import KEEP_FOREVER, TopicSpec, ensure_topics


def new_topic(bootstrap: str, partitions: int = 1, config: dict[str, str] | None = None) -> str:
    """Make a topic of a name of its own."""
    name = f"t{uuid.uuid4().hex[:8]}"
    ensure_topics(bootstrap, [TopicSpec(name, partitions, KEEP_FOREVER | (config or {}))])
    return name


def append(
    bootstrap: str, topic: str, values: Sequence[bytes], partition: int = 0, first_ms: int = 1_000
) -> None:
    """Append plain records whose timestamps ascend by 10 ms from ``first_ms``."""
    client = producer(bootstrap)
    for i, value in enumerate(values):
        client.produce(topic, value, b"k", partition=partition, timestamp=first_ms + 10 * i)
    assert client.flush(30) == 0


def transaction(
    bootstrap: str, topic: str, values: Sequence[bytes], partition: int = 0
) -> Producer:
    """Return a client in whose open transaction ``values`` have reached the broker."""
    client = producer(bootstrap, transactional_id=f"x{uuid.uuid4().hex[:8]}")
    client.init_transactions(30)
    client.begin_transaction()
    for value in values:
        client.produce(topic, value, partition=partition)
    assert client.flush(30) == 0
    return client


def finish(bootstrap: str, topic: str, end: Callable[[float], object]) -> None:
    """Commit or abort by ``end``, and wait until its marker stands in partition 0, last."""
    positions = PositionReader(bootstrap)
    try:
        wanted = positions.ends({topic: 1}, IsolationLevel.READ_UNCOMMITTED)[topic][0] + 1
        end(30.0)
        deadline = time.monotonic() + 30
        while positions.ends({topic: 1})[topic][0] < wanted:
            assert time.monotonic() < deadline, "the transaction's marker does not come"
            time.sleep(0.01)
    finally:
        positions.close()
