"""Every answer is kept in ``P.requests.v1``, so that it too can be joined with a label.

The client's own bounded queue holds what the broker has not taken yet; nothing waits for it unless
the log is required. What is lost is counted, and the service says that it is degraded.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from serving.http.metrics import Metrics
from serving.http.options import Logging
from streams.kafka_client import producer
from streams.wire import Request

QUEUE_RECORDS = 50_000
DELIVERY_S = 30.0
PROBE_S = 2.0
FLUSH_S = 10.0

Done = Callable[[str | None], None]
"""Told once of a request's records: None when the broker has them all, else why not."""

_encode = msgspec.json.Encoder().encode


class RequestLog:
    """Appends answers, from one thread; a thread of its own hears what became of them.

    Args:
        bootstrap: the brokers.
        topic: ``P.requests.v1``.
        source: the CloudEvents source.
        logging: see :class:`serving.http.options.ServeOptions`.
        metrics: where records are counted.
        queue_records: how many may wait for the broker.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        source: str,
        logging: Logging,
        metrics: Metrics,
        queue_records: int = QUEUE_RECORDS,
        delivery_s: float = DELIVERY_S,
    ) -> None:
        self.logging, self._topic = logging, topic
        self._counts = {
            result: metrics.logged.labels(result)
            for result in ("delivered", "queue_full", "not_delivered")
        }
        self._headers: list[tuple[str, str | bytes | None]] = [
            ("ce_specversion", b"1.0"),
            ("ce_type", b"kappa.request.v1"),
            ("ce_source", source.encode()),
            ("content-type", b"application/json"),
        ]
        self._down: str | None = None
        self._lost = 0
        self._stop = threading.Event()
        self._producer: Producer | None = None
        if logging != "off":
            self._producer = producer(
                bootstrap,
                partitioner="murmur2_random",
                linger_ms=1 if logging == "required" else 20,
                queue_buffering_max_messages=queue_records,
                message_timeout_ms=int(delivery_s * 1000),
                error_cb=self._error,
            )
        self._thread = threading.Thread(target=self._hear, name="request-log", daemon=True)

    @property
    def degraded(self) -> str | None:
        """Why answers are not being kept; None where they are."""
        return self._down

    @property
    def lost(self) -> int:
        """How many records the broker never took."""
        return self._lost

    def start(self) -> None:
        """Begin to hear of deliveries."""
        if self._producer is not None:
            self._thread.start()

    def close(self, flush_s: float = FLUSH_S) -> None:
        """Send what waits, for a while, and stop."""
        if self._producer is None:
            return
        self._producer.flush(flush_s)
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def append(self, answers: Sequence[Request], done: Done | None = None) -> None:
        """Queue the records of one request; never waits."""
        if self._producer is None:
            if done is not None:
                done(None)
            return
        fate = _Fate(len(answers), done)

        def delivered(error: KafkaError | None, _: Message[bytes, bytes]) -> None:
            if error is None:
                self._counts["delivered"].inc()
                self._down = None
                fate.one(None)
            else:
                self._lose("not_delivered", f"the broker did not take an answer: {error}")
                fate.one(str(error))

        for answer in answers:
            try:
                self._producer.produce(
                    self._topic,
                    _encode(answer),
                    answer.entity.encode(),
                    on_delivery=delivered,
                    timestamp=answer.asked_ms,
                    headers=[*self._headers, ("ce_id", answer.request_id)],
                )
            except (BufferError, KafkaException) as error:
                self._lose("queue_full", f"{self._topic} can't take more now: {error}")
                fate.one(str(error))

    def _lose(self, result: str, why: str) -> None:
        self._counts[result].inc()
        self._lost += 1
        self._down = why

    def _error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN or error.fatal():
            self._down = f"no broker answers: {error}"

    def _hear(self) -> None:
        client, probed_s = self._producer, 0.0
        while client is not None and not self._stop.is_set():
            client.poll(0.1)
            if self._down is not None and time.monotonic() - probed_s > PROBE_S:
                probed_s = time.monotonic()
                self._probe(client)

    def _probe(self, client: Producer) -> None:
        """Ask whether the broker is back: it may be that no answer is under way to show it."""
        with contextlib.suppress(KafkaException):
            client.list_topics(self._topic, timeout=1.0)
            if len(client) == 0:
                self._down = None


class _Fate:
    """Counts what became of the records of one request."""

    def __init__(self, records: int, done: Done | None) -> None:
        self._left, self._done = records, done
        self._why: str | None = None
        self._lock: Any = threading.Lock()

    def one(self, why: str | None) -> None:
        """Hear of one record."""
        if self._done is None:
            return
        with self._lock:
            self._left -= 1
            self._why = self._why or why
            finished = self._left == 0
        if finished:
            self._done(self._why)
