"""A pipeline's log on a real broker that holds records of every kind that the dashboard shows.

What it tells: three models, each better than the one before; a fourth in canary, a fifth in shadow;
an experiment that ended; and in the last days of 30 a shift of three features, of which the alerts
tell. All of it is a function of the seed, but for the topics' names and the clock of the reports of
health, which have to be of now.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from features.definition import Category, Definition, Number
from serving.alerting.declared import Alerting
from serving.pipeline import Pipeline
from serving.rollout.declared import RolloutPolicy
from serving.spec import DataDrift, Fairness, Performance
from streams.dead_letters import DECODE_ERROR, VALIDATION_ERROR, DeadLetter
from streams.expressions import Above, Value
from streams.kafka_client import producer
from streams.stream import EventStream, LabelStream
from streams.topics import dead_letter_topic, ensure_topics
from streams.wire import Alert, Command, Metric, ModelEvent, Vitals, model_event_key
from tests.serving.dashboard.filled_alerts import alerts
from tests.serving.dashboard.filled_figures import drift, fairness, performance, reference_of
from tests.serving.dashboard.filled_health import vitals
from tests.serving.dashboard.filled_rollout import commands, model_events

PARTITIONS = 2
EVENTS_N = 240
END_MS = 1_584_316_800_000
"""The end of the newest window: 2020-03-16, 00:00 UTC."""


class Ride(msgspec.Struct):
    """An event."""

    id: str
    rider: str
    at_ms: int
    distance_km: float
    temperature: float
    speed: float
    station_load: float
    gap_min: float
    kind: str
    member: str


class End(msgspec.Struct):
    """A label."""

    id: str
    rider: str
    at_ms: int
    minutes: float


EVENTS = EventStream(Ride, id="id", entity="rider", event_time="at_ms", partitions=PARTITIONS)
LABELS = LabelStream(
    End, id="id", entity="rider", event_time="at_ms", target=Above("minutes", 15.0)
)
NUMBERS = ("distance_km", "temperature", "speed", "station_load", "gap_min")
DEFINITION = Definition(
    1,
    {**{name: Number(Value(name)) for name in NUMBERS}, "kind": Category("kind")},
    groups=("member",),
)


def pipeline_of(name: str) -> Pipeline:
    """Return what the pipeline file would declare."""
    return Pipeline(
        name,
        EVENTS,
        LABELS,
        DEFINITION,
        monitors=(DataDrift(), Performance(), Fairness()),
        alerting=Alerting(),
        rollout=RolloutPolicy(),
        timezone="America/New_York",
    )


@dataclass
class FilledLog:
    """The log; ``pipeline`` is what a dashboard of it is made of."""

    bootstrap: str
    pipeline: Pipeline
    client: Producer

    def tell_alert(self, alert: Alert) -> None:
        """Append to the alerts topic."""
        self._append(self.pipeline.topics.alerts, [msgspec.json.encode(alert)])

    def tell_metrics(self, metrics: list[Metric]) -> None:
        """Append to the metrics topic."""
        self._append(self.pipeline.topics.metrics, list(map(msgspec.json.encode, metrics)))

    def tell_event(self, rider: str) -> None:
        """Append an event of a rider, whatever the name is."""
        ride = Ride("ride-x", rider, END_MS, 1.0, 11.5, 14.2, 0.4, 35.0, "bike", "yes")
        self._append(self.pipeline.topics.events, [msgspec.json.encode(ride)], [rider.encode()])

    def tell_health(self) -> None:
        """Append reports of all processes, as of now."""
        self._tell_vitals(vitals(time.time_ns() // 1_000_000))

    def _tell_vitals(self, reports: list[Vitals]) -> None:
        values = list(map(msgspec.json.encode, reports))
        self._append(self.pipeline.topics.health, values, [r.worker.encode() for r in reports])

    def _tell_rollout(self, events: list[ModelEvent], orders: list[Command]) -> None:
        topics = self.pipeline.topics
        values = list(map(msgspec.json.encode, events))
        self._append(topics.models, values, list(map(model_event_key, events)))
        self._append(topics.commands, list(map(msgspec.json.encode, orders)))

    def _tell_events(self) -> None:
        draw = np.random.default_rng(1)
        topics = self.pipeline.topics
        for i in range(EVENTS_N):
            at_ms = END_MS - (EVENTS_N - i) * 60_000
            ride = Ride(
                f"ride-{i:04d}", f"rider-{i % 37:02d}", at_ms, round(float(draw.gamma(2, 1.2)), 2),
                11.5, 14.2, 0.4, 35.0, "bike" if i % 3 else "e-bike", "yes" if i % 4 else "no",
            )  # fmt: skip
            end = End(ride.id, ride.rider, at_ms + 900_000, float(round(draw.gamma(3, 5), 1)))
            for topic, value in ((topics.events, ride), (topics.labels, end)):
                self.client.produce(
                    topic, msgspec.json.encode(value), ride.rider.encode(), i % PARTITIONS,
                    timestamp=at_ms,
                )  # fmt: skip
        for i, (error, broken) in enumerate(_BROKEN):
            letter = DeadLetter(
                error, _REASONS[error], topics.events, 0, 17 * i + 3, b"rider-07", broken, END_MS
            )
            content, key, headers = letter.to_record()
            self.client.produce(
                dead_letter_topic(topics.events),
                content,
                key,
                0,
                timestamp=END_MS,
                headers=dict(headers),
            )

    def _tell_positions(self) -> None:
        """Let the monitor have read a part of each partition of the labels."""
        topics = self.pipeline.topics
        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": topics.group("monitor")}
        )
        consumer.commit(
            offsets=[TopicPartition(topics.labels, p, 100 + 10 * p) for p in range(PARTITIONS)],
            asynchronous=False,
        )
        consumer.close()

    def _append(self, topic: str, values: list[bytes], keys: list[bytes] | None = None) -> None:
        for i, value in enumerate(values):
            self.client.produce(topic, value, None if keys is None else keys[i], 0)
        if self.client.flush(30):
            raise TimeoutError(f"the broker did not take the records of {topic}")


_BROKEN = (
    (DECODE_ERROR, b'{"id": "ride-9001", "rider": "rider-07", "at_ms": '),
    (VALIDATION_ERROR, b'{"id": "ride-9002", "rider": "rider-07", "at_ms": "yesterday"}'),
    (DECODE_ERROR, b"\xff\xfe\x00\x01"),
)
_REASONS = {
    DECODE_ERROR: "JSON is malformed: the input ends within a value",
    VALIDATION_ERROR: "Expected `int`, got `str` - at `$.at_ms`",
}


def fill(bootstrap: str, folder: Path, name: str | None = None) -> FilledLog:
    """Write the log; models' packages with their references lie in ``folder``."""
    pipeline = pipeline_of(name or f"t{uuid4().hex[:8]}")
    ensure_topics(bootstrap, pipeline.topic_specs)
    log = FilledLog(bootstrap, pipeline, producer(bootstrap, linger_ms=5))
    reference = reference_of(NUMBERS)
    log._tell_events()
    log._tell_rollout(model_events(folder, reference, END_MS), commands(END_MS))
    log.tell_metrics([*drift(reference, NUMBERS, END_MS), *performance(END_MS), *fairness(END_MS)])
    for alert in alerts(END_MS):
        log.tell_alert(alert)
    log.tell_health()
    log._tell_positions()
    return log
