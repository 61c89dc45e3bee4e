"""Delivers recordings to the pipeline's two source topics, in order, every record counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message

from streams.errors import BrokerError
from streams.kafka_client import producer
from streams.merging import ascending, cut, rows_where
from streams.recording import Recording
from streams.topics import Topics

Headers = list[tuple[str, str | bytes | None]]

_CALLBACKS_EVERY = 2_000


@dataclass(frozen=True, slots=True)
class Delivered:
    """How many records the broker has confirmed."""

    events: int = 0
    labels: int = 0

    def __add__(self, other: Delivered) -> Delivered:
        """Return the sum."""
        return Delivered(self.events + other.events, self.labels + other.labels)

    def __sub__(self, other: Delivered) -> Delivered:
        """Return the difference."""
        return Delivered(self.events - other.events, self.labels - other.labels)


class SourceProducer:
    """Writes to the events and labels topics of a pipeline.

    Partitions are chosen by the key as every Kafka client in Java does (murmur2), so events and
    labels of an entity stand under the same partition number. A record without a key (its row
    has no valid entity; it ends as a dead letter) goes to partition 0, so that the same input
    always gives the same log.

    Args:
        bootstrap: the brokers.
        topics: names the two topics.
        source: the CloudEvents source, for example ``"kappa/produce"``.
        timeout_s: how long the broker may take to confirm a record.
    """

    def __init__(
        self, bootstrap: str, topics: Topics, source: str = "kappa/produce", timeout_s: float = 60.0
    ) -> None:
        self._bootstrap = bootstrap
        self._timeout_s = timeout_s
        self._topics = (topics.events, topics.labels)
        self._headers = (
            _cloud_event(f"{topics.name}.event", source),
            _cloud_event(f"{topics.name}.label", source),
        )
        self._sent = [0, 0]
        self._confirmed = [0, 0]
        self._failures: list[KafkaError] = []
        self._on_delivery = (self._confirm(0), self._confirm(1))
        self._producer = producer(
            bootstrap,
            partitioner="murmur2_random",
            linger_ms=5,
            batch_size=1 << 20,
            queue_buffering_max_messages=200_000,
            queue_buffering_max_kbytes=262_144,
            message_timeout_ms=int(timeout_s * 1000),
        )

    @property
    def delivered(self) -> Delivered:
        """How much the broker has confirmed so far, in all."""
        return Delivered(*self._confirmed)

    def send(self, recording: Recording) -> None:
        """Queue all records of ``recording``; waits while the queue is full.

        Raises:
            BrokerError: a record was refused; says how many were delivered before.
        """
        produce = self._producer.produce
        records = zip(
            recording.is_label.tolist(),
            recording.values,
            recording.keys,
            np.maximum(recording.timestamps_ms, 1).tolist(),  # 0 means "now" to the client
            strict=True,
        )
        self._producer.poll(0)
        for number, (label, value, key, timestamp_ms) in enumerate(records, 1):
            partition = -1 if key is not None else 0
            arguments = (self._topics[label], value, key, partition, self._on_delivery[label])
            while True:
                try:
                    produce(*arguments, None, timestamp_ms, self._headers[label])
                    break
                except BufferError:
                    self._producer.poll(0.05)
                    self._check()
                except KafkaException as error:
                    raise self._failed(str(error)) from error
            self._sent[label] += 1
            if number % _CALLBACKS_EVERY == 0:
                self._producer.poll(0)
                self._check()

    def flush(self) -> Delivered:
        """Wait until the broker has everything sent, and return how much that is, in all.

        Raises:
            BrokerError: not everything was delivered; says what was and what was not.
        """
        waiting = self._producer.flush(self._timeout_s + 5)
        self._check()
        if waiting:
            raise self._failed(f"no answer within {self._timeout_s:.0f} s")
        return self.delivered

    def _confirm(self, label: int) -> Callable[[KafkaError | None, Message[bytes, bytes]], None]:
        confirmed, failures = self._confirmed, self._failures

        def delivered(error: KafkaError | None, _: Message[bytes, bytes]) -> None:
            if error is None:
                confirmed[label] += 1
            else:
                failures.append(error)

        return delivered

    def _check(self) -> None:
        if self._failures:
            raise self._failed(str(self._failures[0]))

    def _failed(self, why: str) -> BrokerError:
        (events, labels), (sent_events, sent_labels) = self._confirmed, self._sent
        return BrokerError(
            f"Kafka at {self._bootstrap} did not take all records ({why}): delivered were "
            f"{events:,} events of {sent_events:,} and {labels:,} labels of {sent_labels:,} sent "
            f"to {self._topics[0]} and {self._topics[1]}; see that the broker runs and has disk "
            "space. Sending the same input again makes dead letters of the repeated ids, not "
            "second predictions"
        )


class Player:
    """Plays a recording to the broker, stretch by stretch of event time.

    Args:
        recordings: ascending in time, within each and from one to the next.
        to: where they go.
        labels_first: whether the labels of a stretch are delivered before its events, so that
            features made of labels do not depend on which topic the broker was told of first.
    """

    def __init__(
        self, recordings: Iterable[Recording], to: SourceProducer, labels_first: bool = False
    ) -> None:
        self._recordings: Iterator[Recording] = ascending(recordings)
        self._to = to
        self._labels_first = labels_first
        self._held: Recording | None = None
        self._position = 0
        self._delivered = Delivered()

    @property
    def done(self) -> bool:
        """Whether everything was played."""
        return self._next() is None

    @property
    def delivered(self) -> Delivered:
        """What was delivered so far, in all."""
        return self._delivered

    def peek_time_ms(self) -> int | None:
        """Return the timestamp of the next record, or None at the end."""
        held = self._next()
        return None if held is None else int(held.timestamps_ms[self._position])

    def play_until(self, time_ms: int) -> Delivered:
        """Produce all records before ``time_ms``, wait for the broker, return how many they were.

        Raises:
            BrokerError: the broker did not take them all.
            SourceError: the input can't be read on, or goes back in time.
        """
        if self._labels_first:
            parts = list(self._until(time_ms))
            for part in parts:
                self._to.send(rows_where(part, part.is_label))
            self._to.flush()
            for part in parts:
                self._to.send(rows_where(part, ~part.is_label))
        else:
            for part in self._until(time_ms):
                self._to.send(part)
        before, self._delivered = self._delivered, self._to.flush()
        return self._delivered - before

    def _until(self, time_ms: int) -> Iterator[Recording]:
        """Yield what comes before ``time_ms``."""
        while (held := self._next()) is not None:
            stop = int(np.searchsorted(held.timestamps_ms, time_ms, "left"))
            if stop <= self._position:
                return
            yield cut(held, self._position, stop)
            self._position = stop

    def _next(self) -> Recording | None:
        """Return the recording that holds the next record, or None at the end."""
        while self._held is None or self._position >= len(self._held):
            self._held = next(self._recordings, None)
            self._position = 0
            if self._held is None:
                return None
        return self._held


def _cloud_event(kind: str, source: str) -> Headers:
    # The id is the record's own (a field of its value); rows as they come in may have none.
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", kind.encode()),
        ("ce_source", source.encode()),
        ("content-type", b"application/json"),
    ]
