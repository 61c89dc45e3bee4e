"""Reading fixed stretches of the log: ``assign``, never a group, so nobody is disturbed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from streams.batch import LogBatch
from streams.errors import BrokerError
from streams.kafka_client import consumer, watermarks
from streams.log_reader import LogReader, OutOfRangeError
from streams.record_parsing import OldFormatError

POLL_S = 0.1
STALL_S = 30.0
MAX_BATCH = 4_000


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
        BrokerError: the broker fails, has records of the range no longer, or sends nothing for 30 s
            before the end is reached.
    """
    wanted = [(partition, *bounds) for partition, bounds in sorted(ranges.items())]
    reader = LogReader(bootstrap)
    try:
        for partition, first, end in wanted:
            if first < end:
                yield from _read_partition(reader, bootstrap, topic, (partition, first, end))
    finally:
        reader.close()


def _read_partition(
    reader: LogReader, bootstrap: str, topic: str, stretch: tuple[int, int, int]
) -> Iterator[LogBatch]:
    partition, position, end = stretch
    coming, silent_s = reader.fetch(topic, partition, position, end - position), 0.0
    while position < end:
        asked_s = time.monotonic()
        try:
            fetched = coming.result()
        except OutOfRangeError:
            raise _out_of_range(bootstrap, topic, partition, position) from None
        except OldFormatError:
            yield from _read_old(bootstrap, topic, (partition, position, end))
            return
        silent_s = 0.0 if fetched.end > position else silent_s + time.monotonic() - asked_s
        if silent_s >= STALL_S:
            raise BrokerError(
                f"{topic} partition {partition}: no record for {STALL_S:.0f} s before offset {end}"
            )
        if fetched.end < end:  # asked for while the caller works on what has come
            coming = reader.fetch(topic, partition, fetched.end, end - fetched.end)
        while not fetched.is_taken and fetched.position < end:
            batch = _before(fetched.take(MAX_BATCH).batch, end)
            if len(batch):
                yield batch
        position = fetched.end


def _before(batch: LogBatch, end: int) -> LogBatch:
    """Return the records before ``end``."""
    if batch.next_offset <= end:
        return batch
    n = int(np.searchsorted(batch.offsets, end))
    return LogBatch(
        batch.topic, batch.partition, batch.offsets[:n], batch.timestamps_ms[:n],
        batch.keys[:n], batch.values[:n], end,
    )  # fmt: skip


def _out_of_range(bootstrap: str, topic: str, partition: int, offset: int) -> BrokerError:
    """Return what is wrong where the log does not hold the records asked for."""
    begins, ends = _bounds(bootstrap, topic, partition)
    if begins <= offset:
        return BrokerError(
            f"{topic} partition {partition} ends at offset {ends}, but {offset} is asked for: "
            "was the topic made anew?"
        )
    return BrokerError(
        f"{topic} partition {partition} begins at offset {begins}, but {offset} is asked for: "
        "those records are gone; keep them by retention.ms=-1, or ask for a later range"
    )


def _bounds(bootstrap: str, topic: str, partition: int) -> tuple[int, int]:
    client = consumer(bootstrap)
    try:
        return watermarks(client, topic, partition)
    except KafkaException as error:
        raise BrokerError(f"{topic} partition {partition} can't be read: {error}") from error
    finally:
        client.close()


def _read_old(bootstrap: str, topic: str, stretch: tuple[int, int, int]) -> Iterator[LogBatch]:
    """Read by librdkafka, which knows the message formats before 2."""
    partition, position, end = stretch
    client, silent_s = consumer(bootstrap), 0.0
    try:
        client.assign([TopicPartition(topic, partition, position)])
        while position < end:
            # It waits for as many as it is asked for: never ask beyond the end.
            messages = client.consume(min(MAX_BATCH, end - position), POLL_S)
            silent_s = 0.0 if messages else silent_s + POLL_S
            if silent_s >= STALL_S:
                raise BrokerError(
                    f"{topic} partition {partition}: no record for {STALL_S:.0f} s before {end}"
                )
            for message in messages:
                error = message.error()
                if error is None:
                    continue
                if error.code() != KafkaError._PARTITION_EOF:
                    raise BrokerError(f"reading {topic}: {error}")
                position = max(position, _offset(message))
            records = [m for m in messages if m.error() is None and _offset(m) < end]
            if records:
                batch = to_batch(records)
                position = max(position, batch.next_offset)
                yield batch
            elif messages and _offset(messages[-1]) >= end:
                return
    finally:
        client.close()


def to_batch(messages: list[Message[bytes, bytes]]) -> LogBatch:
    """Return the columns of consecutive records of one partition; the list is not empty."""
    last = messages[-1]
    return LogBatch(
        topic=last.topic() or "",
        partition=last.partition() or 0,
        offsets=np.fromiter(map(Message.offset, messages), np.int64, len(messages)),
        timestamps_ms=np.array([m.timestamp()[1] for m in messages], dtype=np.int64),
        keys=[m.key() for m in messages],
        values=[m.value() for m in messages],
        next_offset=_offset(last) + 1,
    )


def _offset(message: Message[bytes, bytes]) -> int:
    offset = message.offset()
    return -1 if offset is None else offset
