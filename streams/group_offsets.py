"""A consumer group's committed offsets, read and written from outside, without joining it.

A replay that builds something commits how far it has come under the group that follows the log
afterwards, so that one goes on where the other ended. A note stands beside each offset.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.closing import close_client
from streams.errors import BrokerError, StateError
from streams.kafka_client import consumer

T = TypeVar("T")

TIMEOUT_S = 15.0

_LOG = logging.getLogger("librdkafka")

_COORDINATOR_COMING = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)
_WITHOUT_MEMBERS = (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)
_HAS_MEMBERS = (
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.FENCED_INSTANCE_ID,
)


@dataclass(frozen=True, slots=True)
class Committed:
    """The next offset that a group will read of a partition, and what was noted with it."""

    offset: int
    note: str


class GroupOffsets:
    """The offsets of one group on one topic; commits only while the group has no member."""

    def __init__(self, bootstrap: str, group: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._topic = topic
        self._client = consumer(bootstrap, group_id=group)

    def read(self, partitions: int) -> dict[int, Committed]:
        """Return partition → what is committed; without those that have nothing.

        Raises:
            BrokerError: the broker does not tell.
        """
        places = [TopicPartition(self._topic, p) for p in range(partitions)]
        try:
            found = coordinated(lambda: self._client.committed(places, timeout=TIMEOUT_S))
        except KafkaException as error:
            raise BrokerError(
                f"offsets of group {self._group} at {self._bootstrap}: {error}"
            ) from error
        return {
            place.partition: Committed(place.offset, place.metadata or "")
            for place in found
            if place.offset >= 0
        }

    def commit(self, positions: Mapping[int, Committed]) -> None:
        """Commit partition → next offset and note.

        Raises:
            StateError: the group has got members, which commit for themselves.
            BrokerError: the broker refuses.
        """
        places = [
            TopicPartition(self._topic, partition, at.offset, at.note)
            for partition, at in sorted(positions.items())
        ]
        if not places:
            return
        try:
            coordinated(lambda: self._client.commit(offsets=places, asynchronous=False))
        except KafkaException as error:
            if error.args[0].code() in _HAS_MEMBERS:
                raise StateError(
                    f"group {self._group} has got a running worker while it was being built from "
                    "outside: stop one of the two"
                ) from error
            raise BrokerError(
                f"group {self._group} can't commit its offsets of {self._topic}: {error}"
            ) from error

    def close(self) -> None:
        """Close the connection."""
        close_client(self._client, f"client of {self._group}")


def coordinated(ask: Callable[[], T]) -> T:
    """Ask again while a broker that has just started has no coordinator for the group yet.

    Raises KafkaException where that lasts, or for other reasons.
    """
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _COORDINATOR_COMING or time.monotonic() > deadline_s:
                raise
        time.sleep(0.05)


def has_members(bootstrap: str, group: str) -> bool:
    """Return whether processes work in a group now.

    Raises:
        BrokerError: the broker does not tell.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap}, logger=_LOG)
    try:
        # Described, a group of the older protocol is unknown to the newer one; listed, it is not.
        listed = admin.list_consumer_groups(request_timeout=TIMEOUT_S).result(TIMEOUT_S)
    except (KafkaException, TimeoutError) as error:
        raise BrokerError(f"the groups at {bootstrap} can't be listed: {error}") from error
    if listed.errors:
        raise BrokerError(f"the groups at {bootstrap} can't be listed: {listed.errors[0]}")
    states = {found.group_id: found.state for found in listed.valid}
    return states.get(group, ConsumerGroupState.DEAD) not in _WITHOUT_MEMBERS
