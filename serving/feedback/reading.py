"""Following several topics from given positions, all partitions with one client, by ``assign``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from operator import methodcaller

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from serving.inference.stretches import Place
from streams.batch import LogBatch
from streams.errors import BrokerError
from streams.group_offsets import coordinated
from streams.kafka_client import consumer
from streams.replay import to_batch

MAX_BATCH = 10_000
COMMITTED_TIMEOUT_S = 30.0

_error_of = methodcaller("error")
_place_of = methodcaller("topic"), methodcaller("partition")


class TopicsReader:
    """Reads committed records; ``positions`` is place → next offset.

    ``ended`` are the places whose end was reached and behind which nothing has come yet. The
    position then stands behind the control records of transactions, which no message shows.
    """

    def __init__(self, bootstrap: str, group: str) -> None:
        self.positions: dict[Place, int] = {}
        self.ended: set[Place] = set()
        self.client = consumer(bootstrap, group_id=group, queued_max_messages_kbytes=16_384)

    def committed(self, places: list[Place]) -> dict[Place, TopicPartition]:
        """Return what the group has committed of places, without those that have nothing.

        Raises:
            BrokerError: the broker does not tell.
        """
        wanted = [TopicPartition(*place) for place in places]
        try:
            found = coordinated(lambda: self.client.committed(wanted, timeout=COMMITTED_TIMEOUT_S))
        except KafkaException as error:
            raise BrokerError(f"the positions of {places} can't be read: {error}") from error
        for at in found:
            if at.error is not None:
                raise BrokerError(f"the position in {at.topic} can't be read: {at.error}")
        return {(at.topic, at.partition): at for at in found if at.offset >= 0}

    def start(self, positions: Mapping[Place, int]) -> None:
        """Read from ``positions`` on."""
        self.positions, self.ended = dict(positions), set()
        self.client.assign([TopicPartition(*place, at) for place, at in positions.items()])

    def poll(self, timeout_s: float = 0.0) -> list[LogBatch]:
        """Return what has come, in runs of one partition; waits up to ``timeout_s`` if nothing.

        Raises:
            BrokerError: the broker says that reading can't go on.
        """
        messages = self.client.consume(1, timeout_s)
        if messages:
            messages += self.client.consume(MAX_BATCH - 1, 0.0)
        records = messages
        if any(map(_error_of, messages)):
            records = [m for m in messages if m.error() is None]
        places = [tuple(of(message) for of in _place_of) for message in records]
        batches = []
        for _, run in groupby(zip(places, records, strict=True), lambda pair: pair[0]):
            batches.append(to_batch([message for _, message in run]))
        for batch in batches:
            place = (batch.topic, batch.partition)
            self.positions[place] = batch.next_offset
            self.ended.discard(place)
        if len(records) < len(messages):
            for message in filter(_error_of, messages):
                self._take_event(message)
        return batches

    def at_end(self) -> bool:
        """Return whether everything that stands in the topics was read."""
        return len(self.ended) == len(self.positions)

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def _take_event(self, message: Message[bytes, bytes]) -> None:
        error, offset = message.error(), message.offset()
        topic, partition = message.topic(), message.partition()
        if error is None:
            return
        if error.code() == KafkaError._PARTITION_EOF:
            if topic is None or partition is None or offset is None:
                return
            # An end reported before records that stand in the same answer is no end any more.
            if offset >= self.positions[topic, partition]:
                self.positions[topic, partition] = offset
                self.ended.add((topic, partition))
        elif error.fatal() or not error.retriable():
            raise BrokerError(f"reading {topic}: {error}")
