"""Records on their way out: sent, acknowledged, and never sent twice over a restart."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import msgspec
from confluent_kafka import KafkaError, Message

from serving.auditing.dead_letter_log import read_dead_letters
from streams.dead_letters import DeadLetter
from streams.errors import BrokerError
from streams.kafka_client import producer
from streams.replay import offset_bounds, read_ranges
from streams.topics import Topics, dead_letter_topic
from streams.wire import SKEW_METRICS, Alert, Metric

FLUSH_S = 30.0

_METRIC = msgspec.json.Decoder(Metric)
_ALERT = msgspec.json.Decoder(Alert)


class Outbox:
    """The monitor's outputs: metrics, alerts, dead labels.

    ``positions`` (topic → next offset), from :meth:`positions`, say up to where a saved state knows
    of what was written; what stands behind them was written after that state, and is not written
    again when the work since then is repeated. Of its kinds of records it is the only writer.
    """

    def __init__(self, bootstrap: str, topics: Topics, positions: Mapping[str, int]) -> None:
        self._topics = topics
        self._producer = producer(bootstrap, linger_ms=2)
        self._failures: list[str] = []
        self._known = dict(positions)
        self._positions = dict(positions)
        self._written = self._read_written(bootstrap)

    def positions(self) -> dict[str, int]:
        """Return what a state saved now must remember; everything must be flushed.

        As long as work is being repeated, that is where its records began.
        """
        return {
            topic: self._known.get(topic, 0) if self._written[topic] else at
            for topic, at in self._positions.items()
        }

    def metric(self, metric: Metric, end_ms: int) -> None:
        """Write a figure told at the closing of the step that ends at ``end_ms``."""
        if self._is_new(self._topics.metrics, _metric_key(metric)) and not self._is_past(end_ms):
            key = metric.metric if metric.feature is None else f"{metric.metric}/{metric.feature}"
            self._send(self._topics.metrics, msgspec.json.encode(metric), key.encode(), end_ms)

    def alert(self, alert: Alert, end_ms: int) -> bool:
        """Write an alert; return False where the log has told of its closing already."""
        if not self._is_new(self._topics.alerts, alert.alert_id) or self._is_past(end_ms):
            return False
        value = msgspec.json.encode(alert)
        self._send(self._topics.alerts, value, alert.alert_id.encode(), end_ms)
        return True

    def _is_past(self, end_ms: int) -> bool:
        return end_ms < self._told_until_ms

    def dead_label(self, dead: DeadLetter) -> None:
        """Write a label that nobody can use."""
        topic = dead_letter_topic(self._topics.labels)
        if self._is_new(topic, (dead.partition, dead.offset)):
            value, key, headers = dead.to_record()
            self._send(topic, value, key, dead.timestamp_ms, headers)

    def flush(self) -> None:
        """Wait until everything is acknowledged; raises BrokerError where it can't be."""
        if self._producer.flush(FLUSH_S) or self._failures:
            why = "; ".join(self._failures) or f"no answer within {FLUSH_S:.0f} s"
            raise BrokerError(f"the monitor's records were not taken by the broker: {why}")

    def _send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        time_ms: int,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        timestamp = max(0, time_ms)
        while True:
            try:
                self._producer.produce(
                    topic,
                    value,
                    key,
                    0,
                    on_delivery=self._delivered,
                    timestamp=timestamp,
                    headers=[*headers],
                )
                self._producer.poll(0)
                return
            except BufferError:  # the local queue is full: let some of it go
                self._producer.poll(0.1)

    def _delivered(self, error: KafkaError | None, message: Message[bytes, bytes]) -> None:
        topic, offset = message.topic(), message.offset()
        if error is not None:
            self._failures.append(f"{topic}: {error}")
        elif topic is not None and offset is not None:
            self._positions[topic] = max(self._positions.get(topic, 0), offset + 1)

    def _is_new(self, topic: str, key: Hashable) -> bool:
        if key not in self._written[topic]:
            return True
        self._written[topic].discard(key)
        return False

    def _read_written(self, bootstrap: str) -> dict[str, set[Hashable]]:
        """Return topic → keys of what stands behind the positions, and move these to the ends."""
        topics = self._topics
        dead_topic = dead_letter_topic(topics.labels)
        written: dict[str, set[Hashable]] = {dead_topic: set()}
        metrics, alerts = (
            self._tail(bootstrap, topics.metrics),
            self._tail(bootstrap, topics.alerts),
        )
        # The skew audit writes here too, and knows no steps.
        own = [m for m in map(_METRIC.decode, metrics) if m.metric not in SKEW_METRICS]
        written[topics.metrics] = {_metric_key(m) for m in own}
        written[topics.alerts] = {alert.alert_id for alert in map(_ALERT.decode, alerts)}
        # A monitor that lost its state closes old steps again, but compares with the model that is
        # live today: of steps before the newest one told of, it must say nothing new.
        self._told_until_ms = max((m.window.end_ms for m in own), default=0)
        first, end = self._positions.get(dead_topic, 0), _end(bootstrap, dead_topic)
        if first < end:
            dead = read_dead_letters(bootstrap, topics.labels, first)
            written[dead_topic].update(
                zip(dead.partitions.tolist(), dead.offsets.tolist(), strict=True)
            )
        self._positions[dead_topic] = end
        return written

    def _tail(self, bootstrap: str, topic: str) -> list[bytes]:
        first, end = self._positions.get(topic, 0), _end(bootstrap, topic)
        self._positions[topic] = end
        batches = read_ranges(bootstrap, topic, {0: (first, end)})
        return [value for batch in batches for value in batch.values if value is not None]


def _end(bootstrap: str, topic: str) -> int:
    return offset_bounds(bootstrap, topic, 1)[0][1]


def _metric_key(m: Metric) -> Hashable:
    window = (m.window.start_ms, m.window.end_ms)
    return (m.metric, m.feature, *window, m.model_version, m.group, m.by, m.restated)
