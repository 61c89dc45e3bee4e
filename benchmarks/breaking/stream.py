"""The feature records that are answered while things break: a function of place alone."""

from __future__ import annotations

import msgspec
import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

from features.aggregations import Count
from features.definition import Category, Definition
from features.records import FeatureCodec, FeatureRows
from streams.kafka_client import producer
from streams.stream import EventStream
from streams.topics import Topics
from streams.wire import Registered

PARTITIONS = 4
PRIOR = 0.25
SHOPS = 200
"""Entities of a partition, in turn."""
T0_MS = 1_577_836_800_000  # 2020-01-01 UTC


class Sale(msgspec.Struct):
    """The event."""

    id: str
    shop: str
    at_ms: int


EVENTS = EventStream(Sale, id="id", entity="shop", event_time="at_ms", partitions=PARTITIONS)
DEFINITION = Definition(
    version=1, features={"shop": Category("shop"), "sales_1h": Count(over="1h", tile="5m")}
)
_CODEC = FeatureCodec(DEFINITION, EVENTS)


class ConstantModel:
    """The same score for every row: the version that answers can be read off it."""

    def __init__(self, version: int) -> None:
        self._score = score_of(version)

    def __call__(self, rows: FeatureRows) -> NDArray[np.float64]:
        """Return (n,) scores."""
        return np.full(len(rows), self._score)


def score_of(version: int) -> float:
    """Return what the model of a version answers."""
    return version / 1000


def load(event: Registered) -> ConstantModel:
    """Return the model of a version."""
    return ConstantModel(event.version)


def registered(version: int) -> Registered:
    """Return the registration of a version."""
    return Registered(version, f"c{version}", f"memory:{version}", "0" * 64, {}, {}, None)


def rows(partition: int, first: int, end: int) -> FeatureRows:
    """Return the feature rows of the events at offsets [first, end) of a partition."""
    offsets = np.arange(first, end)
    n = len(offsets)
    shops = [f"shop{partition}-{offset % SHOPS}" for offset in offsets.tolist()]
    return FeatureRows(
        partition=partition,
        event_ids=[f"e{partition}-{offset}" for offset in offsets.tolist()],
        entities=shops,
        event_times_ms=T0_MS + 1000 * offsets,
        source_offsets=offsets,
        numeric=(offsets % 7).astype(np.float64).reshape(n, 1),
        categories=[shops],
        groups=[],
    )


class FeatureLog:
    """Appends feature records; ``ends`` says partition → how many events have some by now."""

    def __init__(self, bootstrap: str, topics: Topics) -> None:
        self.ends = dict.fromkeys(range(PARTITIONS), 0)
        self._topic = topics.features
        self._producer: Producer = producer(
            bootstrap, linger_ms=5, queue_buffering_max_messages=2_000_000
        )

    def release(self, ends: dict[int, int], again: int = 0) -> None:
        """Append up to these ends; the last ``again`` records before are emitted once more.

        So does a feature worker that was killed.
        """
        for partition, end in ends.items():
            if end <= self.ends[partition]:
                continue
            made = rows(partition, max(0, self.ends[partition] - again), end)
            for value, entity, at_ms in zip(
                _CODEC.encode(made), made.entities, made.event_times_ms.tolist(), strict=True
            ):
                self._producer.produce(self._topic, value, entity, partition, timestamp=at_ms)
            self.ends[partition] = end

    def on_its_way(self) -> int:
        """Serve the client; return how many records the broker has not acknowledged."""
        self._producer.poll(0)
        return len(self._producer)
