"""Reading fixed stretches of the log: ``assign``, never a group, so nobody is disturbed."""

from collections.abc import Iterator, Mapping

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.batch import LogBatch
from streams.errors import BrokerError

POLL_S = 1.0
STALL_S = 30.0
MAX_BATCH = 10_000


def offset_bounds(bootstrap: str, topic: str, partitions: int) -> dict[int, tuple[int, int]]:
    """Return partition → (first offset, end offset visible to read_committed readers)."""
    consumer = _consumer(bootstrap)
    try:
        return {
            p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)
            for p in range(partitions)
        }
    except KafkaException as error:
        raise BrokerError(f"the bounds of {topic} at {bootstrap} can't be read: {error}") from error
    finally:
        consumer.close()


def offsets_at(bootstrap: str, topic: str, partitions: int, time_ms: int) -> dict[int, int]:
    """Return partition → first offset whose record timestamp is ≥ ``time_ms``, else the end."""
    consumer = _consumer(bootstrap)
    try:
        found = consumer.offsets_for_times(
            [TopicPartition(topic, p, time_ms) for p in range(partitions)], timeout=10
        )
        ends = {
            p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1]
            for p in range(partitions)
        }
        return {t.partition: t.offset if t.offset >= 0 else ends[t.partition] for t in found}
    except KafkaException as error:
        raise BrokerError(f"offsets of {topic} at {time_ms} can't be found: {error}") from error
    finally:
        consumer.close()


def read_ranges(
    bootstrap: str, topic: str, ranges: Mapping[int, tuple[int, int]]
) -> Iterator[LogBatch]:
    """Yield the committed records of partition → [first, end), each partition in log order.

    Partitions are read one after the other, so the order of batches is a function of the log.

    Raises:
        BrokerError: the broker fails, or sends nothing for 30 s before the end is reached.
    """
    consumer = _consumer(bootstrap)
    try:
        for partition, (first, end) in sorted(ranges.items()):
            if first < end:
                yield from _read_partition(consumer, topic, partition, first, end)
    finally:
        consumer.close()


def _read_partition(
    consumer: Consumer, topic: str, partition: int, first: int, end: int
) -> Iterator[LogBatch]:
    consumer.assign([TopicPartition(topic, partition, first)])
    silent_s = 0.0
    while True:
        messages = consumer.consume(MAX_BATCH, POLL_S)
        silent_s = 0.0 if messages else silent_s + POLL_S
        if silent_s >= STALL_S:
            raise BrokerError(
                f"{topic} partition {partition}: no record for {STALL_S:.0f} s before offset {end}"
            )
        records, reached = _split(messages, end)
        if records:
            yield to_batch(records)
        if reached:
            return


def _split(messages: list[Message], end: int) -> tuple[list[Message], bool]:
    """Return the records before ``end`` and whether ``end`` was reached."""
    records = []
    for message in messages:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                return records, True
            raise BrokerError(f"reading {message.topic()}: {error}")
        if message.offset() >= end:
            return records, True
        records.append(message)
    return records, bool(records) and records[-1].offset() == end - 1


def to_batch(messages: list[Message]) -> LogBatch:
    """Return the columns of consecutive records of one partition; the list is not empty."""
    last = messages[-1]
    return LogBatch(
        topic=last.topic(),
        partition=last.partition(),
        offsets=np.array([m.offset() for m in messages], dtype=np.int64),
        timestamps_ms=np.array([m.timestamp()[1] for m in messages], dtype=np.int64),
        keys=[m.key() for m in messages],
        values=[m.value() for m in messages],
        next_offset=last.offset() + 1,
    )


def _consumer(bootstrap: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "kappa-replay-unused",  # the client wants one; assign never joins it
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
            "queued.max.messages.kbytes": 65_536,
        }
    )
