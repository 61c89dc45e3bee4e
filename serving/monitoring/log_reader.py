"""Following all partitions of a topic from given positions, by ``assign``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from streams.batch import LogBatch
from streams.closing import close_client
from streams.errors import BrokerError
from streams.kafka_client import consumer
from streams.replay import to_batch

MAX_BATCH = 10_000

# The methods themselves: called without Python in between they take a fifth of the time.
_error_of, _partition_of = Message.error, Message.partition


class LogReader:
    """Reads committed records; ``positions`` is partition → next offset.

    ``ended`` are the partitions whose end was reached and behind which nothing has come yet. The
    position then stands behind the control records of transactions, which no message shows.
    """

    def __init__(
        self, bootstrap: str, topic: str, group: str, partitions: int, start: Mapping[int, int]
    ) -> None:
        self.topic = topic
        self.positions = {p: start.get(p, 0) for p in range(partitions)}
        self.ended: set[int] = set()
        self._consumer = consumer(bootstrap, group_id=group, queued_max_messages_kbytes=32_768)
        self._consumer.assign([TopicPartition(topic, p, at) for p, at in self.positions.items()])

    def poll(self, timeout_s: float = 0.0) -> list[LogBatch]:
        """Return what has come, in runs of one partition; waits up to ``timeout_s`` if nothing.

        Raises:
            BrokerError: the broker says that reading can't go on.
        """
        messages = self._consumer.consume(MAX_BATCH, timeout_s)
        if any(map(_error_of, messages)):
            records = [m for m in messages if m.error() is None]
        else:
            records = messages
        batches = [to_batch(list(run)) for _, run in groupby(records, _partition_of)]
        for batch in batches:
            self.positions[batch.partition] = batch.next_offset
            self.ended.discard(batch.partition)
        if len(records) < len(messages):
            for message in filter(_error_of, messages):
                self._take_event(message)
        return batches

    def commit(self, others: Mapping[str, int]) -> None:
        """Commit the positions, and the position in partition 0 of ``others``, topic → next."""
        offsets = [TopicPartition(self.topic, p, at) for p, at in self.positions.items()]
        offsets += [TopicPartition(topic, 0, at) for topic, at in others.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            raise BrokerError(f"positions in {self.topic} can't be committed: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        close_client(self._consumer, f"consumer of {self.topic}")

    def _take_event(self, message: Message[bytes, bytes]) -> None:
        error, offset, partition = message.error(), message.offset(), message.partition()
        if error is None:
            return
        if error.code() == KafkaError._PARTITION_EOF and partition is not None:
            # An end reported before records that stand in the same answer is no end any more.
            if offset is not None and offset >= self.positions[partition]:
                self.positions[partition] = offset
                self.ended.add(partition)
        elif error.fatal() or not error.retriable():
            raise BrokerError(f"reading {self.topic}: {error}")
