"""Feature records of the partitions that outcomes name, no further ahead than is of use."""

from __future__ import annotations

from itertools import groupby
from operator import methodcaller

from confluent_kafka import KafkaException, TopicPartition

from serving.online.course import Course
from streams.errors import BrokerError
from streams.kafka_client import consumer
from streams.replay import to_batch

MAX_RECORDS = 4_000

_partition_of = methodcaller("partition")


class FeatureFeed:
    """Reads for one course; partitions are added as outcomes name them."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._topic = topic
        self._consumer = consumer(bootstrap, enable_partition_eof=False)
        self._held: set[int] = set()
        self._paused: set[int] = set()

    def serve(self, course: Course, timeout_s: float) -> bool:
        """Give the course what it wants, as far as it has come; return whether it wants more.

        Raises:
            BrokerError: the broker says that reading can't go on.
            StateError: the topic holds foreign records.
        """
        wanted = course.wanted()
        if not wanted:
            return False
        try:
            for partition, (begin, _) in wanted.items():
                if partition not in self._held:
                    place = TopicPartition(self._topic, partition, begin)
                    self._consumer.incremental_assign([place])
                    self._held.add(partition)
                    course.begin_rows(partition, begin)
            ahead = {p for p in self._held if p not in wanted and course.is_ahead(p)}
            self._consumer.pause(self._places(ahead - self._paused))
            self._consumer.resume(self._places(self._paused - ahead))
        except KafkaException as error:
            raise BrokerError(f"reading {self._topic}: {error}") from error
        self._paused = ahead
        messages = []
        for message in self._consumer.consume(MAX_RECORDS, timeout_s):
            failure = message.error()
            if failure is None:
                messages.append(message)
            elif failure.fatal() or not failure.retriable():
                raise BrokerError(f"reading {self._topic}: {failure}")
        for _, run in groupby(messages, _partition_of):
            course.give(to_batch(list(run)))
        return bool(course.wanted())

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def _places(self, partitions: set[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, p) for p in sorted(partitions)]
