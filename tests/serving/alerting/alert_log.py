"""A pipeline's alerts and control log on a real broker, and its worker of the role `notify`."""

import time
from collections.abc import Callable
from contextlib import closing
from uuid import uuid4

import msgspec

from serving.alerting.declared import Alerting
from serving.alerting.notifying import NotifyWorker
from serving.pipeline import Pipeline
from streams.control import ControlFollower, ControlWriter, decode_model_events
from streams.kafka_client import producer
from streams.rollout import Rollout
from streams.stream import EventStream
from streams.topics import ensure_topics
from streams.wire import Alert, ModelEvent, StageChanged
from tests.serving.alerting.told_server import ToldServer
from tests.serving.monitored import DEFINITION, LABELS, Trip

WITHIN_S = 30.0


class AlertLog:
    """A pipeline's alerts and control log on a real broker."""

    def __init__(self, bootstrap: str, alerting: Alerting) -> None:
        events = EventStream(Trip, id="id", entity="rider", event_time="at_ms", partitions=1)
        name = f"t{uuid4().hex[:8]}"
        self.bootstrap = bootstrap
        self.pipeline = Pipeline(name, events, LABELS, DEFINITION, alerting=alerting)
        used = (self.pipeline.topics.alerts, self.pipeline.topics.models)
        ensure_topics(bootstrap, [s for s in self.pipeline.topic_specs if s.name in used])

    def tell(self, *alerts: Alert) -> None:
        client = producer(self.bootstrap, linger_ms=0)
        for alert in alerts:
            client.produce(self.pipeline.topics.alerts, msgspec.json.encode(alert), b"k", 0)
        assert client.flush(30) == 0

    def append(self, *events: ModelEvent) -> None:
        writer = ControlWriter(self.bootstrap)
        for event in events:
            writer.append_model_event(self.pipeline.topics.models, event)

    def events(self) -> list[ModelEvent]:
        with closing(ControlFollower(self.bootstrap, self.pipeline.topics.models)) as follower:
            return decode_model_events(follower.catch_up())

    def rollout(self) -> Rollout:
        return Rollout().apply_all(self.events())

    def by_alert(self) -> list[StageChanged]:
        return [e for e in self.events() if isinstance(e, StageChanged) and e.by == "alert"]

    def worker(self) -> NotifyWorker:
        return NotifyWorker(self.bootstrap, self.pipeline, waits_s=(0.02, 0.1))


def until(worker: NotifyWorker, is_there: Callable[[], bool]) -> None:
    """Let the worker work until it is."""
    deadline_s = time.monotonic() + WITHIN_S
    while not is_there():
        assert time.monotonic() < deadline_s, "it does not come"
        worker.turn()


def ids(server: ToldServer) -> list[str]:
    return [body["alert"]["alert_id"] for body in server.taken]


def done(worker: NotifyWorker) -> bool:
    return all(n == 0 for name, n in worker.figures().items() if name.endswith("/waiting"))
