"""A tiny pipeline on a real broker, which the tests of training share."""

from dataclasses import dataclass
from uuid import uuid4

import msgspec
import numpy as np
from confluent_kafka import Producer

from features.definition import Category, Definition, Number
from features.records import FeatureCodec, FeatureRows
from streams.expressions import Above, Value
from streams.kafka_client import producer
from streams.stream import EventStream, LabelStream
from streams.topics import Topics, ensure_topics

PARTITIONS = 2
STEP_MS = 1000
START_MS = 1_600_000_000_000


class Reading(msgspec.Struct):
    """An event of the tests."""

    id: str
    device: str
    at_ms: int
    level: float
    kind: str


class Outcome(msgspec.Struct):
    """What turned out, half a step after the event."""

    id: str
    device: str
    at_ms: int
    result: float


EVENTS = EventStream(Reading, id="id", entity="device", event_time="at_ms", partitions=PARTITIONS)
LABELS = LabelStream(
    Outcome, id="id", entity="device", event_time="at_ms", target=Above("result", 0.5)
)
DEFINITION = Definition(1, {"level": Number(Value("level")), "kind": Category("kind")})
V2 = Definition(2, DEFINITION.features)


@dataclass(frozen=True)
class Log:
    """A pipeline's topics on ``bootstrap``; ``fill`` appends examples that can be learnt."""

    bootstrap: str
    topics: Topics
    definition: Definition = DEFINITION

    def fill(self, first: int, end: int, *, labels_until: int | None = None) -> None:
        """Append events ``first`` to ``end``, exclusive; their labels up to ``labels_until``."""
        writer = producer(self.bootstrap, linger_ms=5)
        for partition in range(PARTITIONS):
            numbers = np.arange(first + (first + partition) % 2, end, PARTITIONS)
            rows = feature_rows(partition, numbers)
            values = FeatureCodec(self.definition, EVENTS).encode(rows)
            for i, value in zip(numbers, values, strict=True):
                self._produce(writer, self.topics.features, partition, value, time_ms(int(i)))
            for i in numbers[numbers < (end if labels_until is None else labels_until)]:
                known_ms = time_ms(int(i)) + STEP_MS // 2
                label = Outcome(f"e{i}", f"d{partition}", known_ms, float(is_positive(i)))
                self.append_label(writer, partition, msgspec.json.encode(label), known_ms)
        if writer.flush(30):
            raise TimeoutError("the broker did not take the records")

    def append_label(
        self, writer: Producer, partition: int, value: bytes, timestamp_ms: int
    ) -> None:
        """Append one record to the labels topic."""
        self._produce(writer, self.topics.labels, partition, value, timestamp_ms)

    def _produce(
        self, writer: Producer, topic: str, partition: int, value: bytes, timestamp_ms: int
    ) -> None:
        writer.produce(topic, value, b"k", partition, timestamp=timestamp_ms)
        writer.poll(0)


def new_log(bootstrap: str) -> Log:
    """Return a log of its own, with empty topics."""
    topics = Topics(f"t{uuid4().hex[:8]}")
    ensure_topics(bootstrap, topics.specs(PARTITIONS))
    return Log(bootstrap, topics)


def feature_rows(partition: int, numbers: np.ndarray) -> FeatureRows:
    """Return the feature rows of the numbered events; a function of the numbers alone."""
    levels = np.where(is_positive(numbers), 1.0, -1.0) + np.sin(numbers * 12.9898)
    levels[numbers % 17 == 0] = np.nan
    return FeatureRows(
        partition=partition,
        event_ids=[f"e{i}" for i in numbers],
        entities=[f"d{partition}"] * len(numbers),
        event_times_ms=numbers.astype(np.int64) * STEP_MS + START_MS,
        source_offsets=numbers.astype(np.int64),
        numeric=levels[:, None].astype(np.float64),
        categories=[["odd" if i % 3 else "even" for i in numbers]],
        groups=[],
    )


def time_ms(number: int) -> int:
    """Return the event time of an event; its label becomes known half a step later."""
    return START_MS + number * STEP_MS


def is_positive(numbers: np.ndarray) -> np.ndarray:
    """Return which numbered events turn out true."""
    return (np.asarray(numbers) * 7919) % 5 < 2
