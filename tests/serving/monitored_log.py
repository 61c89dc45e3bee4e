"""The monitored pipeline's topics on a real broker, written as the other workers write them."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from uuid import uuid4

import msgspec
import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

from features.definition import Definition
from features.records import FeatureCodec, FeatureRows
from serving.monitoring.worker import MonitorWorker
from serving.spec import DataDrift, Monitor, Performance
from streams.control import ControlFollower, ControlWriter
from streams.kafka_client import producer
from streams.positions import PositionReader
from streams.topics import Topics, ensure_topics
from streams.wire import (
    Advance,
    Alert,
    DefinitionChanged,
    Metric,
    Prediction,
    Registered,
    Retrain,
    Source,
    StageChanged,
    Times,
)
from tests.serving.monitored import DEFINITION, EVENTS, LABELS, PARTITIONS, End, feature_rows
from training.answers import Answers
from training.networks.tasks import Binary
from training.reference import Reference
from training.spec import Training
from training.validation_scores import calibration_sums, validation_scores

MONITORS: tuple[Monitor, ...] = (
    DataDrift(window="2d", threshold=0.25, minimum=50),
    Performance(window="2d", minimum=50),
)
Validation = tuple[NDArray[np.float64], NDArray[np.float64]]
TRAINING = Training(first_after="2d", every="30d", cooldown="2d")
WITHIN_S = 120.0


@dataclass
class MonitoredLog:
    """A pipeline's log. ``numbers`` counts the events per partition."""

    bootstrap: str
    topics: Topics
    further: tuple[Definition, ...] = ()
    numbers: list[int] = field(default_factory=lambda: [0] * PARTITIONS)

    @classmethod
    def new(cls, bootstrap: str, *further: Definition) -> "MonitoredLog":
        """Return a log with empty topics; ``further`` definitions stand beside the first."""
        topics = Topics(f"t{uuid4().hex[:8]}")
        for definition in (DEFINITION, *further):
            of_it = replace(topics, definition=definition.version)
            ensure_topics(bootstrap, of_it.specs(PARTITIONS))
        return cls(bootstrap, topics, further)

    def add_day(
        self,
        day_ms: int,
        events: int,
        *,
        distance: float = 0.0,
        score: float = 0.5,
        long: float = 0.5,
        version: int = 0,
        labels: bool = True,
    ) -> list[FeatureRows]:
        """Append a day's events, spread over it, their answers and their labels an hour later.

        ``distance`` shifts the feature, ``score`` is what the model says, ``long`` the share of
        labels that are 1.
        """
        added = []
        for partition in range(PARTITIONS):
            first = self.numbers[partition]
            n = events // PARTITIONS
            times = [day_ms + (i * 80_000_000) // n for i in range(n)]
            wave = [distance + ((first + i) * 7919 % 1000) / 1000 for i in range(n)]
            rows = feature_rows(partition, times, wave, first)
            self.numbers[partition] += n
            self.add_features(rows)
            for definition in self.further:
                others = feature_rows(partition, times, wave, first, definition)
                self.add_features(others, definition)
            self.add_predictions(rows, score, version)
            if labels:
                minutes = [20.0 if (i * 37 % 100) < long * 100 else 5.0 for i in range(n)]
                self.add_labels(partition, rows.event_ids, times, minutes)
            added.append(rows)
        return added

    def add_features(self, rows: FeatureRows, definition: Definition = DEFINITION) -> None:
        """Append feature records, dated as their events."""
        values = FeatureCodec(definition, EVENTS).encode(rows)
        topic = replace(self.topics, definition=definition.version).features
        self.produce(topic, rows.partition, values, times_ms=rows.event_times_ms.tolist())

    def add_predictions(self, rows: FeatureRows, score: float, version: int) -> None:
        """Append the answers to the rows, in a transaction."""
        values = [
            msgspec.json.encode(
                Prediction(
                    prediction_id=f"{event_id}/{version}",
                    event_id=event_id,
                    entity="r",
                    score=score,
                    model_version=version,
                    stage="live",
                    definition=1,
                    event_time_ms=at,
                    source=Source(rows.partition, offset),
                    times=Times(at, None, at),
                )
            )
            for event_id, at, offset in zip(
                rows.event_ids,
                rows.event_times_ms.tolist(),
                rows.source_offsets.tolist(),
                strict=True,
            )
        ]
        self.produce(self.topics.predictions, rows.partition, values, transaction=True)

    def add_labels(
        self, partition: int, event_ids: list[str], times_ms: list[int], minutes: list[float]
    ) -> None:
        """Append labels that arrive an hour after the times given."""
        rows = zip(event_ids, times_ms, minutes, strict=True)
        values = [msgspec.json.encode(End(i, "r", at + 3_600_000, m)) for i, at, m in rows]
        self.produce(self.topics.labels, partition, values)

    def produce(
        self,
        topic: str,
        partition: int,
        values: list[bytes],
        *,
        transaction: bool = False,
        times_ms: list[int] | None = None,
    ) -> None:
        """Append values to a partition and wait for the broker."""
        client = _producer(self.bootstrap, transaction)
        if transaction:
            client.begin_transaction()
        for value, at_ms in zip(values, times_ms or [0] * len(values), strict=True):
            client.produce(topic, value, b"r", partition, timestamp=at_ms)
        if client.flush(30):
            raise TimeoutError(f"the broker did not take the records of {topic}")
        if transaction:
            client.commit_transaction(30)

    def advance(self, time_ms: int) -> None:
        """Say that event time has got to ``time_ms``."""
        command = Advance(f"advance-{time_ms}", time_ms)
        _writer(self.bootstrap).append_command(self.topics.commands, command)

    def put_live(
        self,
        version: int,
        rows: list[FeatureRows],
        folder: Path,
        validation: Validation | None = None,
    ) -> None:
        """Append a model version whose reference is that of ``rows``, and put it live."""
        self.register(version, rows, folder, validation=validation)
        stage = StageChanged(version=version, stage="live", reason="test")
        _writer(self.bootstrap).append_model_event(self.topics.models, stage)

    def order(self, change: DefinitionChanged) -> None:
        """Append the order of another definition."""
        _writer(self.bootstrap).append_model_event(self.topics.models, change)

    def register(
        self,
        version: int,
        rows: list[FeatureRows],
        folder: Path,
        definition: Definition = DEFINITION,
        validation: Validation | None = None,
    ) -> None:
        """Append a model version whose reference is that of ``rows``, and of the scores and labels
        (n,) of a ``validation``."""
        reference = Reference.from_rows(rows, definition)
        if validation is not None:
            answers, labels = Answers(validation[0]), validation[1]
            reference = reference.with_scores(
                validation_scores(Binary(), answers), calibration_sums(Binary(), answers, labels)
            )
        content = json.dumps(reference.to_json()).encode()
        package = folder / f"model-{version}"
        package.mkdir()
        (package / "reference.json").write_bytes(content)
        manifest = {"files": {"reference.json": hashlib.sha256(content).hexdigest()}}
        (package / "manifest.json").write_bytes(json.dumps(manifest).encode())
        digest = hashlib.sha256((package / "manifest.json").read_bytes()).hexdigest()
        registered = Registered(
            version=version,
            command_id=f"c{version}",
            uri=str(package),
            sha256=digest,
            manifest={},
            metrics={"log_loss": 0.69},
            run_id=None,
            definition=definition.version,
        )
        _writer(self.bootstrap).append_model_event(self.topics.models, registered)

    def monitor(self, home: Path, monitors: tuple[Monitor, ...] = MONITORS) -> MonitorWorker:
        """Return a monitor on this log."""
        return MonitorWorker(
            self.bootstrap,
            self.topics,
            (DEFINITION, *self.further),
            EVENTS,
            LABELS,
            monitors,
            TRAINING,
            "1d",
            home,
        )

    def lag(self, definition: Definition = DEFINITION) -> dict[str, int]:
        """Return how far the monitor's group is behind, per input."""
        features = replace(self.topics, definition=definition.version).features
        keyed = (features, self.topics.predictions, self.topics.labels)
        reader = PositionReader(self.bootstrap)
        try:
            topics = {**dict.fromkeys(keyed, PARTITIONS), self.topics.commands: 1}
            return reader.lag(self.topics.group("monitor"), topics)
        finally:
            reader.close()

    def drain(self, worker: MonitorWorker, definition: Definition = DEFINITION) -> None:
        """Let the monitor work until its group's lag is 0."""
        turn_until(worker, lambda: not any(self.lag(definition).values()))

    def alerts(self) -> list[Alert]:
        """Return the alerts in the log."""
        decode = msgspec.json.Decoder(Alert).decode
        return [decode(value) for value in self._values(self.topics.alerts)]

    def metrics(self) -> list[Metric]:
        """Return the figures in the log."""
        decode = msgspec.json.Decoder(Metric).decode
        return [decode(value) for value in self._values(self.topics.metrics)]

    def retrains(self) -> list[Retrain]:
        """Return the retrain commands in the log."""
        commands = [msgspec.json.decode(v) for v in self._values(self.topics.commands)]
        return [msgspec.convert(c, Retrain) for c in commands if c["type"] == "retrain"]

    def _values(self, topic: str) -> list[bytes]:
        follower = ControlFollower(self.bootstrap, topic)
        try:
            return follower.catch_up()
        finally:
            follower.close()


@cache
def _producer(bootstrap: str, transactional: bool) -> Producer:
    """Return a client that all tests share: a new one takes half a second to begin."""
    if not transactional:
        return producer(bootstrap, linger_ms=5)
    client = producer(bootstrap, linger_ms=5, transactional_id=f"test-{uuid4().hex}")
    client.init_transactions(30)
    return client


@cache
def _writer(bootstrap: str) -> ControlWriter:
    return ControlWriter(bootstrap)


def turn_until(worker: MonitorWorker, reached: Callable[[], bool]) -> None:
    """Let the monitor work until a state is reached."""
    deadline_s = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline_s:
        for _ in range(5):
            worker.turn()
        if reached():
            return
    raise TimeoutError(f"the state was not reached in {WITHIN_S:g} s")
