"""What the broker tells of itself: ends of topics, positions of groups, sizes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient, OffsetSpec
from kafka.errors import KafkaError

from serving.health.lag import Standing
from streams.errors import BrokerError
from streams.topics import connect_admin

SELDOM_S = 10.0
"""So often at most it is asked which topics there are, where they begin, and their sizes."""


@dataclass(frozen=True)
class Measured:
    """One look: topic → partition → offsets; group → topic → partition → next offset to read.

    ``at_ms`` is the clock that the look was told; ``answer_ms`` how long the broker took for the
    ends, ``newest_event_ms`` the newest record time of the topic of events.
    """

    at_ms: int
    answer_ms: float
    ends: Mapping[str, Mapping[int, int]]
    begins: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    committed: Mapping[str, Mapping[str, Mapping[int, int]]] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    newest_event_ms: int | None = None

    def records(self, topic: str) -> int:
        """Return how many offsets of a topic are kept; 0 of one that is not there."""
        begins = self.begins.get(topic, {})
        return sum(end - begins.get(p, 0) for p, end in self.ends.get(topic, {}).items())

    def standing(self, group: str, topic: str) -> dict[int, Standing]:
        """Return partition → where a group stands in a topic."""
        positions = self.committed.get(group, {}).get(topic, {})
        begins = self.begins.get(topic, {})
        return {
            p: Standing(max(positions.get(p, 0), begins.get(p, 0)), end)
            for p, end in sorted(self.ends.get(topic, {}).items())
        }


class Measurer:
    """Asks the broker over one administration connection; a new one after an error.

    Args:
        bootstrap: the brokers.
        topics: topic → number of partitions.
        events: the topic whose newest record time is looked at.
    """

    def __init__(self, bootstrap: str, topics: Mapping[str, int], events: str) -> None:
        self._bootstrap, self._topics, self._events = bootstrap, dict(topics), events
        self._admin: KafkaAdminClient | None = None
        self._seldom_s = float("-inf")
        self._present: dict[str, int] = {}
        self._begins: dict[str, dict[int, int]] = {}
        self._sizes: dict[str, int] = {}

    def look(self, now_ms: int, groups: Iterable[str]) -> Measured:
        """Return how things stand; raises BrokerError where the broker does not answer."""
        try:
            if self._admin is None:
                self._admin = connect_admin(self._bootstrap)
                self._seldom_s = float("-inf")
            admin = self._admin
            if time.monotonic() - self._seldom_s > SELDOM_S:
                self._look_seldom(admin)
            begun_s = time.perf_counter()
            ends = _offsets(admin, self._present, OffsetSpec.LATEST)
            answer_ms = (time.perf_counter() - begun_s) * 1000
            return Measured(
                now_ms, answer_ms, ends, self._begins, _committed(admin, groups), self._sizes,
                self._newest(admin),
            )  # fmt: skip
        except (KafkaError, OSError, ValueError) as error:
            self.close()
            raise BrokerError(
                f"the broker at {self._bootstrap} does not answer: {error}"
            ) from error
        except BrokerError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()

    def _look_seldom(self, admin: KafkaAdminClient) -> None:
        there = set(admin.list_topics())
        self._present = {t: n for t, n in self._topics.items() if t in there}
        self._begins = _offsets(admin, self._present, OffsetSpec.EARLIEST)
        self._sizes = _sizes(admin, self._present)
        self._seldom_s = time.monotonic()

    def _newest(self, admin: KafkaAdminClient) -> int | None:
        if self._events not in self._present:
            return None
        places = _places({self._events: self._present[self._events]})
        found = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.MAX_TIMESTAMP))
        newest = max((at.timestamp for at in found.values()), default=-1)
        return None if newest < 0 else int(newest)


def _places(topics: Mapping[str, int]) -> list[TopicPartition]:
    return [TopicPartition(topic, p) for topic, n in topics.items() for p in range(n)]


def _offsets(
    admin: KafkaAdminClient, topics: Mapping[str, int], spec: OffsetSpec
) -> dict[str, dict[int, int]]:
    found: dict[str, dict[int, int]] = {topic: {} for topic in topics}
    if topics:
        for tp, at in admin.list_partition_offsets(dict.fromkeys(_places(topics), spec)).items():
            found[tp.topic][tp.partition] = at.offset
    return found


def _committed(
    admin: KafkaAdminClient, groups: Iterable[str]
) -> dict[str, dict[str, dict[int, int]]]:
    wanted = list(groups)
    found: dict[str, dict[str, dict[int, int]]] = {group: {} for group in wanted}
    if wanted:
        for group, offsets in admin.list_group_offsets(wanted).items():
            for tp, at in offsets.items():
                if at.offset >= 0:
                    found[group].setdefault(tp.topic, {})[tp.partition] = at.offset
    return found


def _sizes(admin: KafkaAdminClient, topics: Mapping[str, int]) -> dict[str, int]:
    """Return the bytes of each topic on all brokers; empty where they don't tell."""
    try:
        told: Any = admin.describe_log_dirs()
    except KafkaError:
        return {}
    sizes: dict[str, int] = {}
    for broker in told:
        for folder in broker.get("log_dirs", ()):
            for result in folder.get("results", (folder,)):
                for topic in result.get("topics", ()):
                    name = topic.get("name") or topic.get("topic")
                    if name in topics:
                        parts = topic.get("partitions", ())
                        size = sum(int(p.get("partition_size", 0)) for p in parts)
                        sizes[name] = sizes.get(name, 0) + size
    return sizes
