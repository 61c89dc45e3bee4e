"""The labels that a stage reads beside its own input: one partition of the labels topic.

Read by ``assign``, as no group's progress counts here: how far the labels are applied stands in the
stage's snapshot and in every record that it emits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from numpy.typing import NDArray

from features.processing.interleaving import Interleaving, Ints, seen_by_time
from features.processing.stages import Stage
from streams.batch import LogBatch
from streams.errors import BrokerError, StateError
from streams.kafka_client import consumer, watermarks
from streams.replay import read_ranges, to_batch
from streams.wire import Source

OUTPUT_FROM = "output_from"
"""Array in the snapshots of a stage that reads labels: where in the output's partitions to look
for what was emitted since."""

CHUNK = 5_000
POLL_S = 0.1
STALL_S = 30.0


def open_labels(
    bootstrap: str,
    stage: Stage,
    partition: int,
    next_offset: int,
    first: int,
    arrays: Mapping[str, NDArray[Any]] | None,
) -> PartitionLabels:
    """Return the labels of a partition whose state stands at input offset ``next_offset``.

    ``first`` is the next label offset that the state has not applied, ``arrays`` the snapshot that
    it comes from; None where it begins at the log's beginning.

    Raises:
        StateError: the output holds what this stage did not write.
        BrokerError: the labels or the output can't be read.
    """
    begins = np.zeros(len(output_partitions(stage, partition)), dtype=np.int64)
    if arrays is not None:
        begins = arrays[OUTPUT_FROM]
    recorded = read_recorded(bootstrap, stage, partition, begins, next_offset)
    return PartitionLabels(bootstrap, stage, partition, first, recorded, begins)


class PartitionLabels:
    """The labels of one partition, handed out as its batches need them. For one thread at a time.

    Args:
        bootstrap: the brokers.
        stage: the stage that reads them.
        partition: of the labels and of the stage's input.
        first: the next label offset that the state has not applied.
        recorded: what was emitted before says about the order, see :func:`read_recorded`.
        begins: where in the partitions of the stage's output records of the input from the state's
            offset on may stand, shape (output partitions,).
    """

    def __init__(
        self,
        bootstrap: str,
        stage: Stage,
        partition: int,
        first: int,
        recorded: Interleaving,
        begins: Ints,
    ) -> None:
        self._stage, self._topic, self._partition = stage, stage.topics.labels, partition
        self._recorded, self._begins = recorded, begins
        self._applied = self._position = first
        self._ahead: list[LogBatch] = []
        self._client = consumer(bootstrap)
        begins_at = self._bounds(self._topic, partition)[0]
        if begins_at > first > 0:
            raise BrokerError(
                f"{self._topic} partition {partition} begins at offset {begins_at}, but the state "
                f"goes on at {first}: labels between are gone; keep them by retention.ms=-1"
            )
        self._client.assign([TopicPartition(self._topic, partition, first)])

    def take(self, batch: LogBatch) -> tuple[LogBatch, Ints]:
        """Return the labels to apply with a batch and how they stand among its records, (n,).

        Raises:
            BrokerError: they can't be read.
        """
        repeated = int(np.searchsorted(batch.offsets, self._recorded.end))
        seen = np.full(len(batch), self._applied, dtype=np.int64)
        if repeated:
            told = self._recorded.at(batch.offsets[:repeated])
            seen[:repeated] = np.maximum(told, self._applied)
            self._read_to(int(seen[repeated - 1]))
        if repeated < len(batch):
            before = int(seen[repeated - 1]) if repeated else self._applied
            events_ms = batch.timestamps_ms[repeated:]
            self._read_until(int(events_ms.max()))
            times_ms, offsets = self._waiting(before)
            seen[repeated:] = seen_by_time(events_ms, times_ms, offsets, before)
        return self._hand_out(int(seen[-1]) if len(seen) else self._applied), seen

    def begins(self, next_offset: int, ends: Ints) -> Ints:
        """Return where in the output a restart from input offset ``next_offset`` looks.

        ``ends`` (output partitions,) are its ends, asked before a record from there on was emitted.
        """
        return ends if next_offset >= self._recorded.end else self._begins

    def output_ends(self) -> Ints:
        """Return the ends of the stage's output, shape (output partitions,)."""
        topic, partitions = self._stage.output, output_partitions(self._stage, self._partition)
        return np.array([self._bounds(topic, p)[1] for p in partitions], dtype=np.int64)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _waiting(self, first: int) -> tuple[Ints, Ints]:
        """Return (timestamps, offsets) of the labels read from offset ``first`` on."""
        times_ms = [np.empty(0, np.int64), *(batch.timestamps_ms for batch in self._ahead)]
        offsets = np.concatenate([np.empty(0, np.int64), *(b.offsets for b in self._ahead)])
        new = offsets >= first
        return np.concatenate(times_ms)[new], offsets[new]

    def _hand_out(self, end: int) -> LogBatch:
        """Return the labels before ``end`` that were not handed out."""
        whole = _joined(self._topic, self._partition, self._ahead, end)
        n = int(np.searchsorted(whole.offsets, end))
        self._ahead = [_part(whole, slice(n, None), self._position)] if n < len(whole) else []
        self._applied = end
        return _part(whole, slice(0, n), end)

    def _read_until(self, time_ms: int) -> None:
        """Read labels until one is later than that, or to the end as it is now."""
        if self._reaches(time_ms):
            return
        end = self._bounds(self._topic, self._partition)[1]
        while self._position < end and not self._reaches(time_ms):
            self._read_to(min(end, self._position + CHUNK))

    def _reaches(self, time_ms: int) -> bool:
        return any(bool((batch.timestamps_ms > time_ms).any()) for batch in self._ahead)

    def _read_to(self, end: int) -> None:
        """Read all labels before ``end``, which are there."""
        silent_s = 0.0
        while self._position < end:
            before = self._position
            self._read_some(end - before)
            silent_s = silent_s + POLL_S if self._position == before else 0.0
            if silent_s >= STALL_S:
                raise BrokerError(
                    f"{self._topic} partition {self._partition}: no label for {STALL_S:.0f} s "
                    f"before offset {end}"
                )

    def _read_some(self, count: int) -> None:
        """Read so many labels at most; it waits for as many as it is asked for."""
        try:
            messages = self._client.consume(min(count, CHUNK), POLL_S)
        except KafkaException as error:
            raise self._failed(error) from error
        labels: list[Message[bytes, bytes]] = []
        for message in messages:
            problem = message.error()
            if not problem:
                labels.append(message)
            elif problem.code() == KafkaError._PARTITION_EOF:
                self._position = max(self._position, message.offset() or 0)
            else:
                raise self._failed(problem)
        if labels:
            batch = to_batch(labels)
            self._ahead.append(batch)
            self._position = max(self._position, batch.next_offset)

    def _bounds(self, topic: str, partition: int) -> tuple[int, int]:
        try:
            return watermarks(self._client, topic, partition)
        except KafkaException as error:
            raise self._failed(error) from error

    def _failed(self, error: object) -> BrokerError:
        return BrokerError(f"{self._topic} partition {self._partition} can't be read: {error}")


def output_partitions(stage: Stage, partition: int) -> list[int]:
    """Return the partitions of a stage's output that may hold what it makes of a partition."""
    return [partition] if stage.is_last else list(range(stage.events.partitions))


class _Made(msgspec.Struct):
    labels: int
    source: Source | None = None
    origin: Source | None = None


def read_recorded(
    bootstrap: str, stage: Stage, partition: int, begins: Ints, first_offset: int
) -> Interleaving:
    """Return what the output says of the order from input offset ``first_offset`` on.

    Args:
        bootstrap: the brokers.
        stage: the stage that reads labels.
        partition: of its input.
        begins: where in each output partition to begin, see :func:`output_partitions`.
        first_offset: of the input; what was made of earlier records is left out.

    Raises:
        StateError: the output holds something else.
        BrokerError: it can't be read.
    """
    client = consumer(bootstrap)
    try:
        ranges: dict[int, tuple[int, int]] = {}
        for number, begin in zip(output_partitions(stage, partition), begins.tolist(), strict=True):
            low, end = watermarks(client, stage.output, number)
            ranges[number] = (min(max(low, begin), end), end)
    except KafkaException as error:
        raise BrokerError(f"the bounds of {stage.output} can't be read: {error}") from error
    finally:
        client.close()
    return Interleaving.of_records(
        _stretches(read_ranges(bootstrap, stage.output, ranges), stage, partition, first_offset)
    )


def _stretches(
    batches: Iterator[LogBatch], stage: Stage, partition: int, first_offset: int
) -> Iterator[tuple[Ints, Ints]]:
    decode = msgspec.json.Decoder(_Made).decode
    for batch in batches:
        try:
            made = [decode(value) for value in batch.values]  # type: ignore[arg-type]
            # Labels are read by the last stage, or by the first of several: its input is origins.
            places = [m.source if stage.is_last else m.origin for m in made]
            offsets = np.array([(p.partition, p.offset) for p in places], np.int64)  # type: ignore[union-attr]
        except (msgspec.MsgspecError, TypeError, AttributeError) as error:
            raise StateError(
                f"{batch.topic} partition {batch.partition}, offsets {int(batch.offsets[0])} to "
                f"{int(batch.offsets[-1])}: a record says not which labels it has seen ({error}); "
                "another program wrote to the topic"
            ) from error
        mine = (offsets[:, 0] == partition) & (offsets[:, 1] >= first_offset)
        seen = np.array([m.labels for m in made], np.int64)
        yield offsets[mine, 1], seen[mine]


def _joined(topic: str, partition: int, parts: list[LogBatch], next_offset: int) -> LogBatch:
    """Return the batches as one; an empty one where there are none."""
    if len(parts) == 1:
        return parts[0]
    none = np.empty(0, np.int64)
    return LogBatch(
        topic,
        partition,
        np.concatenate([none, *(p.offsets for p in parts)]),
        np.concatenate([none, *(p.timestamps_ms for p in parts)]),
        [key for p in parts for key in p.keys],
        [value for p in parts for value in p.values],
        parts[-1].next_offset if parts else next_offset,
    )


def _part(batch: LogBatch, part: slice, next_offset: int) -> LogBatch:
    return LogBatch(
        batch.topic,
        batch.partition,
        batch.offsets[part],
        batch.timestamps_ms[part],
        batch.keys[part],
        batch.values[part],
        next_offset,
    )
