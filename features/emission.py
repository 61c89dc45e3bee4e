"""From processed batches to acknowledged records on the features and dead-letter topics."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, Message

from features.engine import Processed
from features.records import FeatureCodec
from streams.clock import Clock
from streams.errors import BrokerError
from streams.kafka_client import producer
from streams.topics import Topics, dead_letter_topic

FEATURISED_AT = "kappa-featurised-at-ms"
"""Header: wall-clock time at which the features were made, decimal milliseconds since the epoch."""

_QUEUE_FULL_WAIT_S = 0.002


class FeatureEmitter:
    """Produces without waiting; each :meth:`emit` gives a future that its acknowledgement sets.

    The producer is idempotent and stops at the first gap, so per partition the records stand in
    the topic in source order: whoever sees one knows that all before it are there.
    """

    def __init__(self, bootstrap: str, topics: Topics, codec: FeatureCodec, clock: Clock) -> None:
        self._topics = topics
        self._codec = codec
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._static = [
            ("ce_specversion", b"1.0"),
            ("ce_type", f"{topics.name}.features".encode()),
            ("ce_source", f"kappa/features/{topics.definition}".encode()),
            ("content-type", b"application/json"),
        ]
        self._producer = producer(
            bootstrap,
            linger_ms=2,
            batch_size=1 << 20,
            queue_buffering_max_messages=500_000,
            message_max_bytes=2_000_000,
            enable_gapless_guarantee=True,
        )
        self._closing = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="acknowledgements", daemon=True)
        self._poller.start()

    def emit(self, processed: Processed, traceparents: Mapping[int, bytes]) -> asyncio.Future[None]:
        """Queue the rows under their events' partition, key and time, and the dead letters.

        ``traceparents``: source offset → header value, passed through.
        """
        receipt = _Receipt(self._loop, len(processed.rows) + len(processed.dead))
        rows, produce, topic = processed.rows, self._producer.produce, self._topics.features
        made_at = (FEATURISED_AT, str(self._clock.now_ms()).encode())
        static: list[tuple[str, str | bytes | None]] = [*self._static, made_at]
        headers: list[list[tuple[str, str | bytes | None]]] = [
            [*static, ("ce_id", event_id)] for event_id in rows.event_ids
        ]
        if traceparents:
            for row, offset in enumerate(rows.source_offsets.tolist()):
                if offset in traceparents:
                    headers[row].append(("traceparent", traceparents[offset]))
        partition = rows.partition
        records = zip(
            self._codec.encode(rows),
            processed.keys,
            rows.event_times_ms.clip(1).tolist(),  # 0 means "now" to the client
            headers,
            strict=True,
        )
        for value, key, timestamp_ms, head in records:
            try:
                produce(topic, value, key, partition, receipt, None, timestamp_ms, head)
            except BufferError:
                self._insist(topic, value, key, partition, receipt, None, timestamp_ms, head)
        for letter in processed.dead:
            dead, key, why = letter.to_record()
            dead_topic = dead_letter_topic(letter.topic)
            at_ms = max(1, letter.timestamp_ms)
            self._insist(dead_topic, dead, key, -1, receipt, None, at_ms, why)
        return receipt.future

    def close(self) -> None:
        """Stop; what is not acknowledged by now is given up."""
        self._producer.purge()
        self._closing.set()
        self._poller.join(5)

    def _insist(self, *record: Any) -> None:
        while True:
            try:
                return self._producer.produce(*record)
            except BufferError:
                time.sleep(_QUEUE_FULL_WAIT_S)

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(0.2)


class _Receipt:
    """Counts the acknowledgements of one batch; called by the polling thread alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop, expected: int) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._missing = expected
        if expected == 0:
            self.future.set_result(None)

    def __call__(self, error: KafkaError | None, message: Message[bytes, bytes]) -> None:
        if error is not None:
            self._missing = -1
            self._loop.call_soon_threadsafe(self._fail, str(error), message.topic())
            return
        self._missing -= 1
        if self._missing == 0:
            self._loop.call_soon_threadsafe(self._succeed)

    def _succeed(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def _fail(self, why: str, topic: str | None) -> None:
        if not self.future.done():
            self.future.set_exception(
                BrokerError(
                    f"{topic} did not take a record ({why}); the worker stops and, started again, "
                    "goes on from the last acknowledged one"
                )
            )
