"""Taking things away from the broker: records, topics, consumer groups."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.errors import BrokerError
from streams.replay import offset_bounds

TIMEOUT_S = 30.0

_GONE = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError.GROUP_ID_NOT_FOUND,
)


def clear_topic(bootstrap: str, topic: str, partitions: int) -> None:
    """Remove all records of a topic; its offsets go on where they were.

    Raises:
        BrokerError: the broker refuses.
    """
    bounds = offset_bounds(bootstrap, topic, partitions)
    ends = [TopicPartition(topic, p, end) for p, (first, end) in bounds.items() if first < end]
    if ends:
        admin = _admin(bootstrap)
        _wait(admin.delete_records(ends, operation_timeout=TIMEOUT_S), f"records of {topic}")


def delete_topics(bootstrap: str, topics: Sequence[str]) -> None:
    """Delete topics; those that are gone already are no error.

    Raises:
        BrokerError: the broker refuses.
    """
    if topics:
        admin = _admin(bootstrap)
        _wait(admin.delete_topics(list(topics), operation_timeout=TIMEOUT_S), "topics")


def delete_groups(bootstrap: str, groups: Sequence[str]) -> None:
    """Delete consumer groups with their offsets; those that are gone already are no error.

    Raises:
        BrokerError: a group has members, or the broker refuses.
    """
    if groups:
        admin = _admin(bootstrap)
        _wait(admin.delete_consumer_groups(list(groups), request_timeout=TIMEOUT_S), "groups")


def _admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap}, logger=logging.getLogger("librdkafka"))


def _wait(futures: Mapping[Any, Future[Any]], what: str) -> None:
    for name, future in futures.items():
        try:
            future.result(2 * TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            if isinstance(error, KafkaException) and error.args[0].code() in _GONE:
                continue
            raise BrokerError(f"the broker does not remove {what} ({name}): {error}") from error
