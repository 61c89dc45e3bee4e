"""How the brokers are: whether they answer, how quickly, and what they miss."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from kafka.errors import KafkaError

from streams.errors import BrokerError
from streams.topics import connect_admin

TIMEOUT_S = 5.0
DISK_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class BrokerState:
    """What the brokers say of themselves; all but ``answers`` is unknown where none answers.

    ``answer_ms`` is how long the question took; a partition is under-replicated where a replica is
    not in sync, and offline where it has no leader. ``free_bytes`` and ``total_bytes`` are those
    of the disk that has the least left, where the brokers tell.
    """

    answers: bool
    answer_ms: float | None = None
    brokers: int = 0
    partitions: int = 0
    under_replicated: int = 0
    offline: int = 0
    free_bytes: int | None = None
    total_bytes: int | None = None


SILENT = BrokerState(False)


class BrokerProbe:
    """Asks the brokers, over connections that it keeps."""

    def __init__(self, bootstrap: str, timer: Callable[[], float] = time.perf_counter) -> None:
        self._bootstrap, self._timer = bootstrap, timer
        self._client: AdminClient | None = None
        self._disk: tuple[int | None, int | None] = (None, None)
        self._disk_at_s: float | None = None

    def look(self) -> BrokerState:
        """Return how they are; waits up to :data:`TIMEOUT_S` for an answer, and never raises."""
        if self._client is None:
            self._client = AdminClient(
                {"bootstrap.servers": self._bootstrap, "socket.timeout.ms": int(TIMEOUT_S * 1000)},
                logger=logging.getLogger("librdkafka"),
            )
        began_s = self._timer()
        try:
            found = self._client.list_topics(timeout=TIMEOUT_S)
        except KafkaException:
            return SILENT
        answer_ms = (self._timer() - began_s) * 1000
        partitions = [p for topic in found.topics.values() for p in topic.partitions.values()]
        if self._disk_at_s is None or began_s - self._disk_at_s > DISK_EVERY_S:
            self._disk, self._disk_at_s = disk_of(self._bootstrap), began_s
        free_bytes, total_bytes = self._disk
        return BrokerState(
            answers=True,
            answer_ms=round(answer_ms, 1),
            brokers=len(found.brokers),
            partitions=len(partitions),
            under_replicated=sum(len(p.isrs) < len(p.replicas) for p in partitions),
            offline=sum(p.leader < 0 for p in partitions),
            free_bytes=free_bytes,
            total_bytes=total_bytes,
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._client = None


def disk_of(bootstrap: str) -> tuple[int | None, int | None]:
    """Return (free, total) bytes of the brokers' fullest disk; None where they don't tell."""
    try:
        admin = connect_admin(bootstrap)
    except BrokerError:
        return None, None
    try:
        return fullest_disk(admin.describe_log_dirs(topic_partitions={}))
    except (KafkaError, OSError, ValueError, TypeError, AttributeError):
        return None, None  # an old broker: it informs, no more
    finally:
        with suppress(KafkaError, OSError):
            admin.close()


def fullest_disk(answers: Any) -> tuple[int | None, int | None]:
    """Return (free, total) bytes of the disk that is fullest by share, of the brokers' answers."""
    disks = [
        (folder["usable_bytes"], folder["total_bytes"])
        for answer in answers
        for folder in answer.get("log_dirs", answer.get("results", ()))
        if folder.get("total_bytes", -1) > 0 and folder.get("usable_bytes", -1) >= 0
    ]
    return min(disks, key=lambda disk: disk[0] / disk[1], default=(None, None))
