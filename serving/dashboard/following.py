"""Follows the small topics of a pipeline, with the offsets and times of their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicPartition

from streams.errors import BrokerError
from streams.kafka_client import consumer


@dataclass(frozen=True, slots=True)
class Row:
    """One record."""

    topic: str
    offset: int
    timestamp_ms: int
    value: bytes


class TopicsFollower:
    """Reads partition 0 of ``topics`` from its beginning, by ``assign``; joins no group.

    While the broker is away nothing comes; the client connects again by itself.
    """

    def __init__(self, bootstrap: str, topics: Sequence[str]) -> None:
        self._consumer = consumer(bootstrap, fetch_wait_max_ms=100)
        self._next = dict.fromkeys(topics, 0)
        self._consumer.assign([TopicPartition(topic, 0, 0) for topic in topics])

    def poll(self, timeout_s: float, most: int = 2_000) -> list[Row]:
        """Return what came, in the order of each topic; waits up to ``timeout_s`` for something.

        Raises:
            BrokerError: the client can't go on.
        """
        rows = []
        try:
            first = self._consumer.consume(1, timeout_s)
            messages = first + (self._consumer.consume(most, 0.0) if first else [])
        except KafkaException as failed:
            raise BrokerError(f"following {list(self._next)}: {failed}") from failed
        for message in messages:
            error = message.error()
            topic, offset, value = message.topic(), message.offset(), message.value()
            if error is not None:
                if error.fatal():
                    raise BrokerError(f"following {topic}: {error}")
                continue
            if topic is None or offset is None or value is None or offset < self._next[topic]:
                continue
            self._next[topic] = offset + 1
            rows.append(Row(topic, offset, message.timestamp()[1], value))
        return rows

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()
