"""A pipeline's control log and outcomes on a real broker, written as the other workers write them.

The outcomes follow the control log: what answers an event is what the log says by then, and an
``activated`` record is written before the first answer of a routing.
"""

from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.pipeline import Pipeline
from serving.rollout.declared import Guardrails, RolloutPolicy
from serving.rollout.worker import RolloutWorker
from streams.assignment import versions_of
from streams.control import ControlFollower, ControlWriter, decode_model_events
from streams.kafka_client import producer
from streams.positions import PositionReader
from streams.rollout import Rollout
from streams.stream import EventStream
from streams.topics import ensure_topics
from streams.wire import (
    Activated,
    ModelEvent,
    Outcome,
    Registered,
    Routing,
    Source,
    Stage,
    StageChanged,
)
from tests.serving.monitored import DEFINITION, LABELS, Trip

MINUTE_MS = 60_000
START_MS = 1_700_000_000_000
POLICY = RolloutPolicy(
    shares=(0.05, 0.5), margin=0.02, minimum=100, guardrails=Guardrails(psi=None)
)


@dataclass
class RolloutLog:
    """A pipeline's log; ``noise`` is by how much each version misses the log odds."""

    bootstrap: str
    pipeline: Pipeline
    noise: dict[int, float]
    at: int = 0
    said: Routing = field(default_factory=lambda: Routing(0))
    draw: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    @classmethod
    def new(
        cls, bootstrap: str, noise: dict[int, float], policy: RolloutPolicy = POLICY,
        partitions: int = 1,
    ) -> "RolloutLog":  # fmt: skip
        """Return a log in which version 1 is live."""
        events = EventStream(
            Trip, id="id", entity="rider", event_time="at_ms", partitions=partitions
        )
        name = f"t{uuid4().hex[:8]}"
        pipeline = Pipeline(name, events, LABELS, DEFINITION, rollout=policy)
        ensure_topics(bootstrap, pipeline.topic_specs)
        log = cls(bootstrap, pipeline, noise)
        log.tell(registered(1), StageChanged(1, "live", "first", change=1))
        return log

    def tell(self, *events: ModelEvent) -> None:
        """Append to the control log."""
        writer = ControlWriter(self.bootstrap)
        for event in events:
            writer.append_model_event(self.pipeline.topics.models, event)

    def to_shadow(self, version: int, by: str = "trainer") -> None:
        """Register a version and put it into shadow, as the trainer does."""
        since = {str(p): self.at for p in range(self.pipeline.events.partitions)}
        change = self.rollout().next_change
        self.tell(
            registered(version),
            StageChanged(version, "shadow", "a test", since=since, by=by, change=change),
        )

    def events(self) -> list[ModelEvent]:
        """Return the control log."""
        follower = ControlFollower(self.bootstrap, self.pipeline.topics.models)
        try:
            return decode_model_events(follower.catch_up())
        finally:
            follower.close()

    def rollout(self) -> Rollout:
        """Return what the control log says."""
        return Rollout().apply_all(self.events())

    def changes(self, version: int) -> list[StageChanged]:
        """Return the policy's changes of a version."""
        mine = [e for e in self.events() if isinstance(e, StageChanged) and e.by == "policy"]
        return [e for e in mine if e.version == version]

    def play(self, n: int) -> None:
        """Let n events be answered and labelled by what the control log says now."""
        rollout = self.rollout()
        routing = rollout.routing(1)
        partitions = self.pipeline.events.partitions
        if routing != self.said:
            positions = {str(p): self.at for p in range(partitions)}
            self.tell(Activated(routing.live, "live", "w", positions, routing, 1))
            self.said = routing
        entities = [f"r{number}" for number in self.draw.integers(0, 2_000, n).tolist()]
        seen = self.draw.normal(-0.5, 1.2, n)
        labels = (self.draw.random(n) < sigmoid(seen)).astype(float)
        stages: dict[int, Stage] = {arm.version: arm.stage for arm in routing.arms}
        answering = versions_of(routing, entities).tolist()
        shadows = sorted(rollout.shadows)
        scores = {
            v: sigmoid(seen + self.noise[v] * self.draw.normal(size=n)) for v in sorted(self.noise)
        }
        outcomes: list[Outcome] = []
        for i in range(n):
            live = answering[i]
            told: list[tuple[int, Stage]] = [(live, stages.get(live, "live"))]
            told += [(version, "shadow") for version in shadows]
            for version, stage in told:
                outcomes.append(
                    self._outcome(
                        self.at + i,
                        entities[i],
                        float(scores[version][i]),
                        float(labels[i]),
                        version,
                        stage,
                    )
                )
        self.at += n
        self._produce(outcomes)

    def worker(self, home: Path) -> RolloutWorker:
        """Return a worker on this log."""
        return RolloutWorker(self.bootstrap, self.pipeline, home)

    def drain(self, worker: RolloutWorker) -> None:
        """Let the worker work until its group's lag is 0."""
        for _ in range(2_000):
            worker.turn()
            if self.lag() == 0:
                return
        raise TimeoutError("the worker does not get there")

    def lag(self) -> int:
        """Return how far the worker's group is behind."""
        topics = self.pipeline.topics
        reader = PositionReader(self.bootstrap)
        partitions = self.pipeline.events.partitions
        try:
            lag = reader.lag(topics.group("rollout"), {topics.outcomes: partitions})
            return sum(lag.values())
        finally:
            reader.close()

    def _outcome(
        self, number: int, entity: str, score: float, label: float, version: int, stage: Stage
    ) -> Outcome:
        event_ms = START_MS + MINUTE_MS * number
        partition = number % self.pipeline.events.partitions
        name = f"{self.pipeline.name}.features.v1"
        return Outcome(
            prediction_id=f"{name}-{partition}-{number}-v{version}",
            event_id=f"e{number}",
            entity=entity,
            score=score,
            label=label,
            model_version=version,
            stage=stage,
            definition=1,
            event_time_ms=event_ms,
            label_time_ms=event_ms + 30 * MINUTE_MS,
            label_source=Source(partition, number),
            source=Source(partition, number),
            features_offset=number,
            features_partition=partition,
            latency_ms=12,
        )

    def _produce(self, outcomes: list[Outcome]) -> None:
        client = producer(self.bootstrap)
        topic = self.pipeline.topics.outcomes
        for outcome in outcomes:
            value = msgspec.json.encode(outcome)
            client.produce(topic, value, outcome.entity.encode(), outcome.features_partition or 0)
        assert client.flush(30) == 0


def registered(version: int) -> Registered:
    """Return a version's record."""
    return Registered(version, f"c{version}", "", "", {}, {}, None)


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(−x))."""
    return 1 / (1 + np.exp(-x))
