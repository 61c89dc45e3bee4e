"""A pipeline's topics on a real broker, written as the other workers write them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from uuid import uuid4

import msgspec
from confluent_kafka import Producer

from features.definition import Category, Definition, Number
from features.records import FeatureCodec
from serving.feedback.account import Account, read_account
from serving.feedback.worker import OutcomesWorker
from serving.pipeline import Pipeline
from streams.expressions import Value
from streams.kafka_client import producer
from streams.positions import PositionReader
from streams.replay import offset_bounds, read_ranges
from streams.topics import ensure_topics
from streams.wire import Outcome, Prediction, Request, Source, Stage, Times
from tests.serving.monitored import EVENTS, LABELS, PARTITIONS, End, feature_rows
from training.spec import Model

DEFINITION = Definition(1, {"distance": Number(Value("distance")), "kind": Category("kind")})
GROUPED = Definition(2, {"distance": Number(Value("distance"))}, groups=("user",))
START_MS = 1_700_000_000_000
DAY_MS = 86_400_000
TURNS = 3_000


@dataclass
class FeedbackLog:
    """A pipeline's log."""

    bootstrap: str
    pipeline: Pipeline

    @classmethod
    def new(cls, bootstrap: str, model: Model | None = None, within: str = "60d") -> "FeedbackLog":
        """Return a log with empty topics."""
        pipeline = pipeline_of(f"t{uuid4().hex[:8]}", model, within)
        ensure_topics(bootstrap, pipeline.topic_specs)
        return cls(bootstrap, pipeline)

    def predict(
        self,
        numbers: range,
        version: int = 1,
        stage: Stage = "live",
        definition: int = 1,
        partition: int = 0,
        spread: float | None = None,
    ) -> None:
        """Append the answers to events, in a transaction; each event is a minute later."""
        name = f"{self.pipeline.name}.features.v{definition}"
        answers = [
            Prediction(
                prediction_id=f"{name}-{partition}-{n}-v{version}",
                event_id=f"e{partition}-{n}",
                entity=f"r{n % 3}",
                score=(10 * (n % 10) + version) / 100,
                model_version=version,
                stage=stage,
                definition=definition,
                event_time_ms=event_ms(n),
                source=Source(partition, n),
                times=Times(event_ms(n), event_ms(n) + 3, event_ms(n) + 10),
                spread=spread,
            )
            for n in numbers
        ]
        topics = self.pipeline.topics
        topic = topics.shadow if stage == "shadow" else topics.predictions
        values = list(map(msgspec.json.encode, answers))
        times = [answer.event_time_ms for answer in answers]
        self.produce(topic, partition, values, transaction=True, times_ms=times)

    def ask(self, requests: list[Request]) -> None:
        """Append what was asked over HTTP."""
        self.produce(self.pipeline.topics.requests, 1, list(map(msgspec.json.encode, requests)))

    def label(
        self, numbers: range, partition: int = 0, of: int = 0, delay_ms: int = 3_600_000
    ) -> None:
        """Append labels of the events of partition ``of``, so much after them."""
        ends = [
            End(f"e{of}-{n}", f"r{n % 3}", event_ms(n) + delay_ms, 20.0 if n % 4 == 0 else 5.0)
            for n in numbers
        ]
        values, times = list(map(msgspec.json.encode, ends)), [end.at_ms for end in ends]
        self.produce(self.pipeline.topics.labels, partition, values, times_ms=times)

    def features(self, numbers: range, partition: int = 0) -> None:
        """Append the feature records of the definition with groups."""
        rows = feature_rows(
            partition, [event_ms(n) for n in numbers], [1.0] * len(numbers), numbers[0], GROUPED
        )
        codec = FeatureCodec(GROUPED, EVENTS, LABELS)
        topic = self.pipeline.topics_of(GROUPED).features
        rows.categories.clear()
        self.produce(topic, partition, codec.encode(rows))

    def produce(
        self,
        topic: str,
        partition: int,
        values: list[bytes],
        *,
        transaction: bool = False,
        times_ms: list[int] | None = None,
    ) -> None:
        """Append values, dated now or as given, and wait for the broker."""
        client = _producer(self.bootstrap, transaction)
        if transaction:
            client.begin_transaction()
        for value, at_ms in zip(values, times_ms or [0] * len(values), strict=True):
            client.produce(topic, value, b"r", partition, timestamp=at_ms)
        assert client.flush(30) == 0
        if transaction:
            client.commit_transaction(30)

    def worker(self, home: Path, save_records: int = 100) -> OutcomesWorker:
        """Return a worker on this log."""
        return OutcomesWorker(self.bootstrap, self.pipeline, home, save_records)

    def account(self) -> Account:
        """Return what the worker says it has come to."""
        found = read_account(self.bootstrap, self.pipeline.topics)
        assert found is not None
        return found

    def lag(self) -> int:
        """Return how far the worker's group is behind."""
        topics = self.pipeline.topics
        reader = PositionReader(self.bootstrap)
        names = (
            topics.predictions, topics.shadow, topics.requests, topics.labels,
            self.pipeline.topics_of(GROUPED).features,
        )  # fmt: skip
        try:
            lag = reader.lag(topics.group("outcomes"), dict.fromkeys(names, PARTITIONS))
            return sum(lag.values())
        finally:
            reader.close()

    def drain(self, worker: OutcomesWorker) -> None:
        """Let the worker work until its group's lag is 0."""
        turn_until(worker, lambda: self.lag() == 0)

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes in the log, partition after partition."""
        topic = self.pipeline.topics.outcomes
        ranges = offset_bounds(self.bootstrap, topic, PARTITIONS)
        decode = msgspec.json.Decoder(Outcome).decode
        return [
            decode(value)
            for batch in read_ranges(self.bootstrap, topic, ranges)
            for value in batch.values
            if value is not None
        ]


def pipeline_of(name: str, model: Model | None = None, within: str = "60d") -> Pipeline:
    """Return the declaration."""
    definitions = (DEFINITION, GROUPED)
    return Pipeline(name, EVENTS, LABELS, definitions, model=model or Model(), labels_within=within)


def event_ms(number: int) -> int:
    """Return the time of an event."""
    return START_MS + 60_000 * number


def turn_until(worker: OutcomesWorker, is_there: Callable[[], bool]) -> None:
    """Let the worker work until a state is there."""
    for turn in range(TURNS):
        worker.turn()
        if turn % 5 == 4 and is_there():
            return
    raise TimeoutError("the worker does not get there")


@cache
def _producer(bootstrap: str, transactional: bool) -> Producer:
    """Return a client that all tests share: a new one takes half a second to begin."""
    if not transactional:
        return producer(bootstrap, linger_ms=5)
    client = producer(bootstrap, linger_ms=5, transactional_id=f"test-{uuid4().hex}")
    client.init_transactions(30)
    return client
