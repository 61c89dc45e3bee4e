"""Reading fixed stretches of the log: ``assign``, never a group, so nobody is disturbed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import methodcaller

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.batch import LogBatch
from streams.errors import BrokerError
from streams.kafka_client import consumer, watermarks

POLL_S = 0.1
STALL_S = 30.0
MAX_BATCH = 10_000

_error_of = methodcaller("error")


def offset_bounds(bootstrap: str, topic: str, partitions: int) -> dict[int, tuple[int, int]]:
    """Return partition → (first offset, end offset visible to read_committed readers)."""
    client = consumer(bootstrap)
    try:
        return {p: watermarks(client, topic, p) for p in range(partitions)}
    except KafkaException as error:
        raise BrokerError(f"the bounds of {topic} at {bootstrap} can't be read: {error}") from error
    finally:
        client.close()


def offsets_at(bootstrap: str, topic: str, partitions: int, time_ms: int) -> dict[int, int]:
    """Return partition → first offset whose record timestamp is ≥ ``time_ms``, else the end."""
    client = consumer(bootstrap)
    try:
        found = client.offsets_for_times(
            [TopicPartition(topic, p, time_ms) for p in range(partitions)], timeout=10
        )
        ends = {p: watermarks(client, topic, p)[1] for p in range(partitions)}
        return {t.partition: t.offset if t.offset >= 0 else ends[t.partition] for t in found}
    except KafkaException as error:
        raise BrokerError(f"offsets of {topic} at {time_ms} can't be found: {error}") from error
    finally:
        client.close()


def read_ranges(
    bootstrap: str, topic: str, ranges: Mapping[int, tuple[int, int]]
) -> Iterator[LogBatch]:
    """Yield the committed records of partition → [first, end), each partition in log order.

    Partitions are read one after the other, so the order of batches is a function of the log.

    Raises:
        BrokerError: the broker fails, or sends nothing for 30 s before the end is reached.
    """
    client = consumer(bootstrap, queued_max_messages_kbytes=65_536)
    try:
        for partition, (first, end) in sorted(ranges.items()):
            if first < end:
                yield from _read_partition(client, topic, partition, first, end)
    finally:
        client.close()


def _read_partition(
    client: Consumer, topic: str, partition: int, first: int, end: int
) -> Iterator[LogBatch]:
    _check_beginning(client, topic, partition, first)
    client.assign([TopicPartition(topic, partition, first)])
    silent_s, position = 0.0, first
    while True:
        # It waits for as many as it is asked for: never ask beyond the end.
        messages = client.consume(min(MAX_BATCH, end - position), POLL_S)
        silent_s = 0.0 if messages else silent_s + POLL_S
        if silent_s >= STALL_S:
            raise BrokerError(
                f"{topic} partition {partition}: no record for {STALL_S:.0f} s before offset {end}"
            )
        records, reached = _split(messages, end)
        if records:
            batch = to_batch(records)
            position = batch.next_offset
            yield batch
        if reached:
            return


def _check_beginning(client: Consumer, topic: str, partition: int, first: int) -> None:
    """Raise BrokerError where records asked for are gone; the client would go on after them."""
    try:
        begins = watermarks(client, topic, partition)[0]
    except KafkaException as error:
        raise BrokerError(f"{topic} partition {partition} can't be read: {error}") from error
    if begins > first:
        raise BrokerError(
            f"{topic} partition {partition} begins at offset {begins}, but {first} is asked for: "
            "those records are gone; keep them by retention.ms=-1, or ask for a later range"
        )


def _split(
    messages: list[Message[bytes, bytes]], end: int
) -> tuple[list[Message[bytes, bytes]], bool]:
    """Return the records before ``end`` and whether ``end`` was reached."""
    # By truth, as the client's errors can't be compared with None: count(None) raises.
    if messages and not any(map(_error_of, messages)):
        last = _offset(messages[-1])
        if last < end:  # nearly always: no Python code per record
            return messages, last == end - 1
    records: list[Message[bytes, bytes]] = []
    for message in messages:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                if _offset(message) >= end:
                    return records, True
                continue  # the log ends before: an open transaction, or an end not yet reached
            raise BrokerError(f"reading {message.topic()}: {error}")
        if _offset(message) >= end:
            return records, True
        records.append(message)
    return records, bool(records) and _offset(records[-1]) == end - 1


def to_batch(messages: list[Message[bytes, bytes]]) -> LogBatch:
    """Return the columns of consecutive records of one partition; the list is not empty."""
    last = messages[-1]
    return LogBatch(
        topic=last.topic() or "",
        partition=last.partition() or 0,
        offsets=np.array([m.offset() for m in messages], dtype=np.int64),
        timestamps_ms=np.array([m.timestamp()[1] for m in messages], dtype=np.int64),
        keys=[m.key() for m in messages],
        values=[m.value() for m in messages],
        next_offset=_offset(last) + 1,
    )


def _offset(message: Message[bytes, bytes]) -> int:
    offset = message.offset()
    return -1 if offset is None else offset
