"""The role ``health``: looks every few seconds, and writes what is wrong to the alerts topic.

A turn: (1) look, (2) judge, (3) write the alerts, those first that could not be written before,
(4) set what this process's own vitals and metrics say of lag, dead letters and brokers. What is
told lasts in the alerts topic, from where it is read at the start; nothing else is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

import msgspec
import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from features.processing.stages import Stage
from serving.health.deciding import Health, metric_of
from serving.health.observation import Limits, Observation
from serving.health.observing import Observer
from serving.stopping import until_signal
from serving.tail import newest_records
from streams import hops
from streams.batch import LogBatch
from streams.clock import Clock, SystemClock
from streams.kafka_client import producer
from streams.topics import Topics, dead_letter_topic
from streams.watchdog import beat
from streams.wire import Alert

EVERY_S = 5.0
WRITTEN_WITHIN_S = 5.0
REMEMBERED = 20_000
"""Alerts that are read at the start, of all kinds."""

_LOG = structlog.get_logger(role="health")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Alert).decode


class Looks(Protocol):
    """What looks at the pipeline: :class:`serving.health.observing.Observer`."""

    def look(self) -> Observation:
        """Return what is seen now."""
        ...

    def close(self) -> None:
        """Let go of the connections."""
        ...


class HealthWorker:
    """One worker. Of several each would tell the same, under the same ids or some seconds apart.

    Raises:
        BrokerError: the brokers can't be reached at the start.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        observer: Looks,
        clock: Clock,
        limits: Limits | None = None,
    ) -> None:
        self._bootstrap, self._topics, self._observer = bootstrap, topics, observer
        self.health = Health(topics, limits)
        told = newest_records(bootstrap, topics.alerts, 1, REMEMBERED, alerts_of)
        self.health.restore(told, clock.now_ms())
        self._unwritten: list[Alert] = []
        self._producer: Producer | None = None

    def run(self, stop: threading.Event, every_s: float = EVERY_S) -> None:
        """Work until ``stop`` is set."""
        while not stop.is_set():
            beat()
            self.turn()
            stop.wait(every_s)

    def turn(self) -> list[Alert]:
        """Look, and tell what is new; return that."""
        seen = self._observer.look()
        alerts = self.health.judge(seen)
        for alert in alerts:
            log = _LOG.info if alert.state == "resolved" else _LOG.warning
            log("health", state=alert.state, key=alert.key, cause=alert.cause)
        self._unwritten += alerts
        if seen.broker.answers:
            self._write()
        for name, value in figures_of(seen, self.health).items():
            hops.figure(name, value)
        return alerts

    def close(self) -> None:
        """Let go of all connections."""
        self._observer.close()

    def _write(self) -> None:
        """Write what is to be written, in its order; what fails is tried again next time."""
        while self._unwritten and self._is_written(self._unwritten[0]):
            self._unwritten.pop(0)

    def _is_written(self, alert: Alert) -> bool:
        taken: list[bool] = []

        def delivered(error: KafkaError | None, _: Message[bytes, bytes]) -> None:
            taken.append(error is None)

        try:
            if self._producer is None:
                within_ms = int(WRITTEN_WITHIN_S * 1000)
                self._producer = producer(
                    self._bootstrap, linger_ms=0, message_timeout_ms=within_ms
                )
            self._producer.produce(
                self._topics.alerts, _encode(alert), alert.key.encode(), on_delivery=delivered
            )
            self._producer.flush(WRITTEN_WITHIN_S + 1)
        except (KafkaException, BufferError) as error:
            _LOG.warning("a health alert is not written yet", why=str(error))
        if taken == [True]:
            return True
        self._producer = None  # what it still holds is dropped with it
        return False


def figures_of(seen: Observation, health: Health) -> Mapping[str, float]:
    """Return what the process's own vitals say of the pipeline."""
    figures: dict[str, float] = {"broker/up": float(seen.broker.answers)}
    if seen.broker.answers:
        broker = seen.broker
        figures |= {
            "broker/answer_ms": broker.answer_ms or 0.0,
            "broker/brokers": broker.brokers,
            "broker/under_replicated": broker.under_replicated,
            "broker/offline": broker.offline,
        }
        if broker.free_bytes is not None:
            figures["broker/free_bytes"] = broker.free_bytes
    for role, topics in seen.standings.items():
        for topic, partitions in topics.items():
            for partition, standing in partitions.items():
                figures[f"lag/{role}/{topic}/{partition}"] = standing.lag
    for topic, n in (seen.dead or {}).items():
        figures[f"dead_records/{dead_letter_topic(topic)}"] = n
    confirmed = [metric_of(n) for n, s in health.standing.items() if s.state == "confirmed"]
    return {**figures, **{f"alerts/{metric}": confirmed.count(metric) for metric in METRICS}}


METRICS = (
    "lag", "silent", "restarts", "dead_letters", "broker_answers", "broker_slow",
    "under_replicated", "offline", "disk", "memory",
)  # fmt: skip
"""What health alerts are about."""


def alerts_of(batch: LogBatch) -> list[Alert]:
    """Return the alerts of a stretch of their topic; what is none is passed over."""
    found = []
    for value in batch.values:
        try:
            found.append(_decode(value or b""))
        except msgspec.MsgspecError:
            continue
    return found


def run_health(
    bootstrap: str,
    topics: Topics,
    partitions: int,
    stages: Mapping[str, Stage],
    clock: Clock | None = None,
) -> None:
    """Run the worker until SIGTERM or SIGINT. Errors as :class:`HealthWorker`."""
    clock = clock or SystemClock()
    observer = Observer(bootstrap, topics, partitions, stages, clock)
    with until_signal(threading.Event()) as stop:
        try:
            HealthWorker(bootstrap, topics, observer, clock).run(stop)
        finally:
            observer.close()
