"""A pipeline's log with an experiment in it, written as the workers write it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import msgspec
import numpy as np

from features.definition import Category, Definition, Number
from serving.pipeline import Pipeline
from streams.assignment import versions_of
from streams.control import ControlFollower, ControlWriter, decode_model_events
from streams.expressions import Value
from streams.kafka_client import producer
from streams.rollout import Rollout
from streams.topics import Topics, ensure_topics
from streams.wire import (
    Activated,
    ModelEvent,
    Outcome,
    Positions,
    Registered,
    Routing,
    Source,
    StageChanged,
)
from tests.serving.monitored import EVENTS, LABELS, PARTITIONS, START, End

HOUR_MS = 3_600_000
DEFINITION = Definition(1, {"distance": Number(Value("distance")), "kind": Category("kind")})
LONG_MINUTES = 20.0  # a label of 1
SHORT_MINUTES = 5.0

FILE = """
from serving.pipeline import Pipeline
from tests.serving.experiments.experiment_log import DEFINITION
from tests.serving.monitored import EVENTS, LABELS

pipeline = Pipeline(name="{name}", events=EVENTS, labels=LABELS, features=DEFINITION)
"""


def registered(version: int, definition: int = 1) -> Registered:
    """Return the registration of a version."""
    return Registered(
        version, f"c{version}", f"memory:{version}", "0" * 64, {}, {}, None, definition
    )


@dataclass
class ExperimentLog:
    """A log whose outcomes are written directly; ``offsets`` are the next of each partition."""

    bootstrap: str
    pipeline: Pipeline
    offsets: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(PARTITIONS), 0))

    @classmethod
    def new(cls, bootstrap: str) -> "ExperimentLog":
        """Return a log in which version 1 is live, and 2 and 3 are registered."""
        pipeline = Pipeline(f"t{uuid4().hex[:8]}", EVENTS, LABELS, DEFINITION)
        ensure_topics(bootstrap, pipeline.topic_specs)
        log = cls(bootstrap, pipeline)
        log.append(*map(registered, (1, 2, 3)), StageChanged(1, "live", "a test"))
        log.activate()
        return log

    @property
    def topics(self) -> Topics:
        """The pipeline's."""
        return self.pipeline.topics

    def declared(self, folder: Path) -> str:
        """Return a file that declares the pipeline."""
        path = folder / f"{self.pipeline.name}.py"
        path.write_text(FILE.format(name=self.pipeline.name))
        return str(path)

    def append(self, *events: ModelEvent) -> None:
        """Append to the control log."""
        writer = ControlWriter(self.bootstrap)
        for event in events:
            writer.append_model_event(self.topics.models, event)

    def rollout(self) -> Rollout:
        """Return what the control log says."""
        follower = ControlFollower(self.bootstrap, self.topics.models)
        try:
            return Rollout().apply_all(decode_model_events(follower.catch_up()))
        finally:
            follower.close()

    def activate(self) -> Routing:
        """Say, as a worker, that all partitions are answered by the routing from here on."""
        routing = self.rollout().routing(1)
        positions: Positions = {str(p): offset for p, offset in self.offsets.items()}
        self.append(Activated(routing.live, "live", "w0", positions, routing))
        return routing

    def answer(
        self,
        entities: int,
        days: float,
        shares: Mapping[int, float],
        seed: int = 0,
        per_entity: int = 6,
        kept: Callable[[int, str, int], bool] | None = None,
        routing: Routing | None = None,
    ) -> None:
        """Append the outcomes of so many entities over ``days`` from here on.

        ``shares`` are the probability of label 1 by version. Entities differ: the first half of
        them has .2 more, the other half .2 less. ``kept`` (version, entity, number) loses records;
        ``routing`` stands in for the log's.
        """
        draws, routing = np.random.default_rng(seed), routing or self.rollout().routing(1)
        names = [f"r{n}" for n in range(entities)]
        versions = versions_of(routing, names).tolist()
        outcomes: dict[int, list[bytes]] = {p: [] for p in range(PARTITIONS)}
        labels: dict[int, list[bytes]] = {p: [] for p in range(PARTITIONS)}
        start_ms = START + max(self.offsets.values()) * 60_000
        n = 0
        for number in range(per_entity):
            for entity, (name, version) in enumerate(zip(names, versions, strict=True)):
                n += 1
                partition = entity % PARTITIONS
                offset = self.offsets[partition]
                self.offsets[partition] += 1
                at = start_ms + int(n / (entities * per_entity) * days * 24 * HOUR_MS)
                share = shares[version] + (0.2 if entity % 4 < 2 else -0.2)
                is_long = bool(draws.random() < share)
                minutes = (LONG_MINUTES if is_long else SHORT_MINUTES) + float(draws.random())
                if kept is not None and not kept(version, name, number):
                    continue
                event_id = f"e{partition}-{offset}"
                outcome = Outcome(
                    prediction_id=f"{event_id}-v{version}",
                    event_id=event_id,
                    entity=name,
                    score=round(float(draws.uniform(0.2, 0.8)), 3),
                    label=float(is_long),
                    model_version=version,
                    stage="live" if version == routing.live else "experiment",
                    definition=1,
                    event_time_ms=at,
                    label_time_ms=at + HOUR_MS,
                    label_source=Source(
                        partition, self._labels(partition) + len(labels[partition])
                    ),
                    source=Source(partition, offset),
                    features_offset=offset,
                    features_partition=partition,
                )
                outcomes[partition].append(msgspec.json.encode(outcome))
                label = End(event_id, name, at + HOUR_MS, minutes)
                labels[partition].append(msgspec.json.encode(label))
        for partition in range(PARTITIONS):
            self._written[partition] = self._labels(partition) + len(labels[partition])
            self.produce(self.topics.outcomes, partition, outcomes[partition])
            self.produce(self.topics.labels, partition, labels[partition])

    def produce(self, topic: str, partition: int, values: list[bytes]) -> None:
        """Append values and wait for the broker."""
        client = producer(self.bootstrap)
        for value in values:
            client.produce(topic, value, b"r", partition)
        assert client.flush(30) == 0

    _written: dict[int, int] = field(default_factory=dict)

    def _labels(self, partition: int) -> int:
        return self._written.get(partition, 0)
