"""A stream of card payments, its features, and a feature worker in a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import msgspec
import numpy as np

from features.aggregations import Count, Mean, Sum, TimeSinceLast
from features.definition import Category, Definition, HourOfDay, Number
from features.engine.engine import FeatureEngine
from features.records import FeatureCodec
from streams.batch import LogBatch
from streams.expressions import Value
from streams.kafka_client import producer
from streams.positions import PositionReader
from streams.replay import offset_bounds, read_ranges
from streams.stream import EventStream
from streams.topics import Topics, ensure_topics

START_MS = 1_700_000_000_000
ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 4


class Payment(msgspec.Struct, frozen=True):
    payment: str
    card: str
    at: int
    amount: Annotated[float, msgspec.Meta(ge=0)]
    channel: str = "web"


PAYMENTS = EventStream(Payment, id="payment", entity="card", event_time="at", partitions=PARTITIONS)
DEFINITION = Definition(
    1,
    {
        "count_5m": Count("5m", "1m"),
        "sum_5m": Sum(Value("amount"), "5m", "1m"),
        "mean_1h": Mean(Value("amount"), "1h", "5m"),
        "since": TimeSinceLast(),
        "amount": Number(Value("amount")),
        "hour": HourOfDay(),
        "channel": Category("channel"),
    },
    groups=("channel",),
)

# What `python -m features.worker tests.features.payments` runs; the name comes with --name.
pipeline = SimpleNamespace(topics=Topics("payments"), features=DEFINITION, events=PAYMENTS)


def payments(first: int, n: int, cards: int = 40, bad: bool = True) -> list[tuple[bytes, bytes]]:
    """Return (key, value) of payments ``first`` to ``first + n``: with ``bad``, of every hundred
    one is no JSON, one breaks a constraint and one repeats an id."""
    rng = np.random.default_rng(first)
    amounts = rng.exponential(40, n)
    chosen = rng.integers(0, cards, n)
    late_ms = rng.integers(0, 30_000, n)
    records: list[tuple[bytes, bytes]] = []
    for i in range(n):
        number, key = first + i, f"card{chosen[i]}".encode()
        payment = Payment(
            f"p{number}", key.decode(), START_MS + number * 1000 - int(late_ms[i]),
            round(float(amounts[i]), 2), "web" if number % 3 else "shop",
        )  # fmt: skip
        value = msgspec.json.encode(payment)
        if bad and number % 100 == 97:
            value = value[:-5]
        elif bad and number % 100 == 98:
            value = value.replace(b'"amount":', b'"amount":-')
        elif bad and number % 100 == 99:
            key, value = records[-3]
        records.append((key, value))
    return records


def send(
    bootstrap: str,
    topics: Topics,
    records: Sequence[tuple[bytes, bytes]],
    headers: list[tuple[str, str | bytes | None]] | None = None,
) -> None:
    """Append the records to the events topic, and wait until the broker has them."""
    client = producer(bootstrap, partitioner="murmur2_random", linger_ms=2)
    for number, (key, value) in enumerate(records):
        client.produce(topics.events, value, key, timestamp=START_MS + number, headers=headers)
    assert client.flush(30) == 0


def prepared(bootstrap: str, name: str) -> Topics:
    """Create the topics of a pipeline ``name``."""
    topics = Topics(name, DEFINITION.version)
    ensure_topics(bootstrap, topics.specs(PARTITIONS))
    return topics


@contextmanager
def feature_worker(
    bootstrap: str,
    name: str,
    home: Path,
    *options: str,
    declared: str = "tests.features.payments",
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker; killed at the end where the test did not stop it."""
    home.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "features.worker", declared, bootstrap, str(home),
        "--name", name, *options,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (home / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


class Progress:
    """Where the feature stage of a pipeline stands."""

    def __init__(self, bootstrap: str, topics: Topics) -> None:
        self._reader = PositionReader(bootstrap)
        self._topics = topics
        self._group = topics.group("features")

    def committed(self) -> dict[int, int]:
        """Return partition → committed offset."""
        return self._reader.committed(self._group).get(self._topics.events, {})

    def lag(self) -> int:
        """Return how many events are not committed."""
        return self._reader.lag(self._group, {self._topics.events: PARTITIONS})[self._topics.events]

    def wait_drained(self, process: subprocess.Popen[bytes], timeout_s: float = 60.0) -> None:
        """Wait until committed offsets equal the ends."""
        self.wait_until(lambda: self.lag() == 0, process, timeout_s)

    def wait_committed(
        self, records: int, process: subprocess.Popen[bytes], timeout_s: float = 60.0
    ) -> None:
        """Wait until so many records in all are committed."""
        self.wait_until(lambda: sum(self.committed().values()) >= records, process, timeout_s)

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()

    def wait_until(
        self, reached: Callable[[], bool], process: subprocess.Popen[bytes], timeout_s: float = 60.0
    ) -> None:
        """Wait for a state, as long as the worker lives."""
        deadline = time.monotonic() + timeout_s
        while not reached():
            assert process.poll() is None, f"the worker ended with {process.returncode}"
            assert time.monotonic() < deadline, f"not reached in {timeout_s} s; lag {self.lag()}"
            time.sleep(0.02)


def read_all(bootstrap: str, topic: str, partitions: int = PARTITIONS) -> list[LogBatch]:
    """Return everything in a topic."""
    return list(read_ranges(bootstrap, topic, offset_bounds(bootstrap, topic, partitions)))


def offline(bootstrap: str, topics: Topics) -> tuple[dict[tuple[int, int], bytes], int]:
    """Return (partition, source offset) → feature value as the engine alone makes it in one go,
    and how many dead letters there are."""
    codec = FeatureCodec(DEFINITION, PAYMENTS)
    engines = [FeatureEngine(DEFINITION, PAYMENTS) for _ in range(PARTITIONS)]
    values: dict[tuple[int, int], bytes] = {}
    dead = 0
    for batch in read_all(bootstrap, topics.events):
        processed = engines[batch.partition].process(batch)
        dead += len(processed.dead)
        for offset, value in zip(
            processed.rows.source_offsets.tolist(), codec.encode(processed.rows), strict=True
        ):
            values[batch.partition, offset] = value
    return values, dead


def emitted(bootstrap: str, topics: Topics) -> tuple[dict[tuple[int, int], set[bytes]], bool]:
    """Return (partition, source offset) → the values in the features topic, and whether first
    appearances stand in source order in every partition."""
    codec = FeatureCodec(DEFINITION, PAYMENTS)
    values: dict[tuple[int, int], set[bytes]] = {}
    newest = [-1] * PARTITIONS
    in_order = True
    for batch in read_all(bootstrap, topics.features):
        offsets = codec.decode(batch).source_offsets.tolist()
        for offset, value in zip(offsets, batch.values, strict=True):
            assert value is not None
            place = (batch.partition, offset)
            in_order &= place in values or offset > newest[batch.partition]
            newest[batch.partition] = max(newest[batch.partition], offset)
            values.setdefault(place, set()).add(value)
    return values, in_order
