"""Reading a dead-letter topic: which records of the source it stands for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from numpy.typing import NDArray

from streams.errors import BrokerError, StateError
from streams.kafka_client import consumer
from streams.topics import dead_letter_topic

STALL_S = 30.0


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Where n dead letters stood in their source topic; ``errors`` are their classes.

    A worker that crashed may have written one twice; ``distinct`` gives each record once.
    """

    partitions: NDArray[np.int64]
    offsets: NDArray[np.int64]
    errors: list[str]

    def distinct(self, partition: int) -> NDArray[np.int64]:
        """Return the offsets of the partition's dead records, ascending, each once."""
        found: NDArray[np.int64] = np.unique(self.offsets[self.partitions == partition])
        return found


def read_dead_letters(bootstrap: str, source: str, first: int = 0) -> DeadLetters:
    """Return the dead letters of topic ``source``, from offset ``first`` of its dlq on.

    Raises:
        BrokerError: the broker fails or sends nothing for 30 s.
        StateError: a record has not the headers of a dead letter.
    """
    topic = dead_letter_topic(source)
    return _columns([_origin(message, topic) for message in _messages(bootstrap, topic, first)])


def read_dead_values(bootstrap: str, source: str) -> Iterator[tuple[str, bytes | None]]:
    """Yield the error class and the original bytes of each dead letter of topic ``source``.

    Errors as :func:`read_dead_letters`.
    """
    topic = dead_letter_topic(source)
    for message in _messages(bootstrap, topic, 0):
        yield _origin(message, topic)[2], message.value()


def _messages(bootstrap: str, topic: str, first: int) -> Iterator[Message[bytes, bytes]]:
    """Yield the records of partition 0 from ``first`` to its end as it stands then."""
    client = consumer(bootstrap)
    silent_s = 0.0
    try:
        client.assign([TopicPartition(topic, 0, first)])
        while silent_s < STALL_S:
            messages = client.consume(10_000, 0.1)
            silent_s = 0.0 if messages else silent_s + 0.1
            for message in messages:
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    return
                else:
                    raise BrokerError(f"reading {topic}: {error}")
    except KafkaException as error:
        raise BrokerError(f"reading {topic}: {error}") from error
    finally:
        client.close()
    raise BrokerError(f"reading {topic}: no record for {STALL_S:.0f} s before its end")


def _columns(found: list[tuple[int, int, str]]) -> DeadLetters:
    places = np.array([pair[:2] for pair in found], dtype=np.int64).reshape(-1, 2)
    return DeadLetters(places[:, 0], places[:, 1], [error for _, _, error in found])


def _origin(message: Message[bytes, bytes], topic: str) -> tuple[int, int, str]:
    headers: dict[str, Any] = dict(message.headers() or [])
    try:
        return (
            int(headers["partition"] or b""),
            int(headers["offset"] or b""),
            str(headers["error"] or b"", "utf-8"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(
            f"{topic}, offset {message.offset()} is no dead letter: header {error} is missing or "
            "unreadable; another program wrote to the topic"
        ) from error
