"""Taking things away from the broker: records, topics, consumer groups; and what there is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.errors import BrokerError
from streams.replay import offset_bounds
from streams.topics import connect_admin

TIMEOUT_S = 30.0

_GONE = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError.GROUP_ID_NOT_FOUND,
)


@dataclass(frozen=True, slots=True)
class TopicSize:
    """What a topic holds: records, and bytes on the brokers' disks (None where they don't say)."""

    records: int
    bytes: int | None


def topic_sizes(bootstrap: str, is_wanted: Callable[[str], bool]) -> dict[str, TopicSize]:
    """Return topic → size, of the topics whose name is wanted.

    Raises:
        BrokerError: the broker does not tell.
    """
    try:
        listed = _admin(bootstrap).list_topics(timeout=TIMEOUT_S).topics
    except KafkaException as error:
        raise BrokerError(f"the topics at {bootstrap} can't be listed: {error}") from error
    partitions = {name: len(listed[name].partitions) for name in sorted(filter(is_wanted, listed))}
    on_disk = _bytes_on_disk(bootstrap, set(partitions))
    return {
        name: TopicSize(
            sum(end - first for first, end in offset_bounds(bootstrap, name, n).values()),
            on_disk.get(name),
        )
        for name, n in partitions.items()
    }


def group_names(bootstrap: str) -> list[str]:
    """Return the names of all consumer groups.

    Raises:
        BrokerError: the broker does not tell.
    """
    admin = _admin(bootstrap)  # by name, as its end would end what it was asked
    try:
        listed = admin.list_consumer_groups(request_timeout=TIMEOUT_S).result(TIMEOUT_S)
    except (KafkaException, TimeoutError) as error:
        raise BrokerError(f"the groups at {bootstrap} can't be listed: {error}") from error
    if listed.errors:
        raise BrokerError(f"the groups at {bootstrap} can't be listed: {listed.errors[0]}")
    return sorted(group.group_id for group in listed.valid)


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


def _bytes_on_disk(bootstrap: str, topics: set[str]) -> dict[str, int]:
    """Return topic → bytes of its replicas; without those that the brokers don't tell of."""
    if not topics:
        return {}
    from kafka.errors import KafkaError as RefusedError

    admin = connect_admin(bootstrap)
    try:
        brokers = admin.describe_log_dirs()
    except RefusedError:
        return {}
    finally:
        admin.close()
    sizes: dict[str, int] = {}
    for broker in brokers:
        for folder in broker["log_dirs"]:
            for topic in folder["topics"]:
                held = sum(partition["partition_size"] for partition in topic["partitions"])
                sizes[topic["name"]] = sizes.get(topic["name"], 0) + held
    return {name: size for name, size in sizes.items() if name in topics}


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
