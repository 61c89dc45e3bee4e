"""Card payments once more, by two keys: what the card did and what happened at the shop, of which
verdicts tell later; and the processes of both stages."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import msgspec
import numpy as np

from features.aggregations import Count, Mean, Sum, TimeSinceLast
from features.definition import Category, Definition, Feature, HourOfDay, Number, Ratio
from features.processing.stages import Stage, stages_of
from features.reprocessing.verify import Replay, ReplayReport
from streams.expressions import Above, Value
from streams.kafka_client import producer
from streams.positions import PositionReader
from streams.replay import offset_bounds, read_ranges
from streams.stream import EventStream, LabelStream
from streams.topics import Topics, ensure_topics

START_MS = 1_700_000_000_000
ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 3
KNOWN_AFTER_MS = 60_000


class Payment(msgspec.Struct, frozen=True):
    payment: str
    card: str
    shop: str
    at: int
    amount: Annotated[float, msgspec.Meta(ge=0)]
    channel: str = "web"


class Verdict(msgspec.Struct, frozen=True):
    payment: str
    shop: str
    paid_at: int
    known_at: int
    fraud: int


def payments_stream(partitions: int = PARTITIONS) -> EventStream:
    return EventStream(Payment, id="payment", entity="card", event_time="at", partitions=partitions)


PAYMENTS = payments_stream()
VERDICTS = LabelStream(
    Verdict, id="payment", entity="shop", event_time="known_at", target=Above("fraud", 0.5),
    about="paid_at", delay="1m",
)  # fmt: skip
OF_CARD: dict[str, Feature] = {
    "count_5m": Count("5m", "1m"),
    "sum_1h": Sum(Value("amount"), "1h", "5m"),
    "since": TimeSinceLast(),
}
OF_SHOP: dict[str, Feature] = {
    "shop_count_5m": Count("5m", "1m", by="shop"),
    "shop_mean_1h": Mean(Value("amount"), "1h", "5m", by="shop"),
}
OF_EVENT: dict[str, Feature] = {
    "amount": Number(Value("amount")),
    "to_usual": Ratio("amount", "shop_mean_1h"),
    "hour": HourOfDay(),
    "channel": Category("channel"),
}


def definition(version: int, features: dict[str, Feature]) -> Definition:
    return Definition(version, features, groups=("channel",))


BOTH_KEYS = Definition(1, {**OF_CARD, **OF_SHOP, **OF_EVENT}, groups=("channel",))
WITH_VERDICTS = Definition(
    1,
    {
        **OF_CARD,
        **OF_SHOP,
        "shop_frauds_1h": Mean(Above("fraud", 0.5), "1h", "5m", by="shop", on="labels", delay="1m"),
        "shop_verdicts_1h": Count("1h", "5m", by="shop", on="labels", delay="1m"),
        **OF_EVENT,
    },
    groups=("channel",),
)

# Where the event stands in a re-keyed topic is another place after each repetition there.
PLACE = re.compile(rb'"source":\{"partition":\d+,"offset":\d+\},')

Log = Sequence[tuple[bytes, bytes, int]]
"""(key, value, record timestamp)."""


def pipeline_of(definition: Definition, partitions: int = PARTITIONS) -> SimpleNamespace:
    """Return what ``python -m features.worker tests.features.shops:NAME`` runs."""
    return SimpleNamespace(
        topics=Topics("shops"),
        features=definition,
        events=payments_stream(partitions),
        labels=VERDICTS,
    )


one_key = pipeline_of(definition(1, {**OF_CARD, "amount": Number(Value("amount"))}))
both_keys = pipeline_of(BOTH_KEYS)
with_verdicts = pipeline_of(WITH_VERDICTS)
one_partition = pipeline_of(WITH_VERDICTS, 1)
both_keys_one_partition = pipeline_of(BOTH_KEYS, 1)


def payments(first: int, n: int, bad: bool = True) -> Log:
    """Return payments ``first`` to ``first + n``, one a second, some late; with ``bad``, of every
    hundred one is no JSON and one repeats an id; some have line breaks between their tokens."""
    rng = np.random.default_rng(first)
    records: list[tuple[bytes, bytes, int]] = []
    for i in range(n):
        number, at = first + i, START_MS + (first + i) * 1000
        payment = Payment(
            f"p{number}", f"card{rng.integers(40)}", f"shop{rng.integers(12)}",
            at - int(rng.integers(20_000)), round(float(rng.exponential(40)), 2),
            "web" if number % 3 else "shop",
        )  # fmt: skip
        key, value = payment.card.encode(), msgspec.json.encode(payment)
        if number % 50 == 7:
            value = msgspec.json.format(value, indent=2)
        if bad and number % 100 == 97:
            value = value[:-5]
        elif bad and number % 100 == 99:
            key, value, _ = records[-3]
        records.append((key, value, at))
    return records


def verdicts(first: int, n: int) -> Log:
    """Return the verdicts on the payments of the same numbers, each known a minute later."""
    records: list[tuple[bytes, bytes, int]] = []
    for number, (_, value, at) in enumerate(payments(first, n, bad=False), first):
        paid = msgspec.json.decode(value, type=Payment)
        known_at = at + KNOWN_AFTER_MS
        verdict = Verdict(paid.payment, paid.shop, paid.at, known_at, int(number % 7 == 0))
        records.append((paid.shop.encode(), msgspec.json.encode(verdict), known_at))
    return records


def send(bootstrap: str, topic: str, records: Log) -> None:
    """Append the records to a topic, and wait until the broker has them."""
    client = producer(bootstrap, partitioner="murmur2_random", linger_ms=2)
    for key, value, at_ms in records:
        client.produce(topic, value, key, timestamp=at_ms)
    assert client.flush(30) == 0


def prepared(bootstrap: str, name: str, pipeline: SimpleNamespace) -> list[Stage]:
    """Create the topics of a pipeline ``name``; return its stages."""
    topics = Topics(name, pipeline.features.version)
    stages = stages_of(pipeline.features, pipeline.events, pipeline.labels, topics)
    ensure_topics(bootstrap, topics.specs(pipeline.events.partitions, stages[0].keys[1:]))
    return stages


@contextmanager
def stage_worker(
    bootstrap: str, stage: Stage, pipeline: str, home: Path, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker of a stage of the pipeline of that name here; killed at the end."""
    home.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "features.worker", f"tests.features.shops:{pipeline}", bootstrap,
        str(home), "--name", stage.topics.name, "--stage", str(stage.number), "--no-online",
        *options,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (home / f"worker-{stage.number}.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def wait_drained(
    bootstrap: str, stages: list[Stage], workers: list[subprocess.Popen[bytes]]
) -> None:
    """Wait until each stage has committed the end of its input, the first first."""
    reader = PositionReader(bootstrap)
    deadline = time.monotonic() + 120
    try:
        for stage in stages:
            inputs = {stage.input: stage.events.partitions}
            while lag := sum(reader.lag(stage.group, inputs).values()):
                assert [worker.poll() for worker in workers] == [None] * len(workers)
                assert time.monotonic() < deadline, f"{stage.role} is {lag} behind"
                time.sleep(0.02)
    finally:
        reader.close()


def replayed(bootstrap: str, stage: Stage) -> ReplayReport:
    return Replay(
        bootstrap, stage.topics, stage.definition, stage.events,
        labels=stage.labels, stage=stage.number,
    ).run()  # fmt: skip


def copy(bootstrap: str, topic: str, to: str, partitions: int) -> None:
    """Append all records of a topic to another, each to its partition."""
    client = producer(bootstrap)
    for batch in read_ranges(bootstrap, topic, offset_bounds(bootstrap, topic, partitions)):
        for key, value, at_ms in zip(
            batch.keys, batch.values, batch.timestamps_ms.tolist(), strict=True
        ):
            client.produce(to, value, key, batch.partition, timestamp=at_ms)
    assert client.flush(30) == 0


def features_by_event(bootstrap: str, stage: Stage) -> dict[tuple[int, int], bytes]:
    """Return position in the events topic → the record's bytes, but for the re-keyed place."""
    found: dict[tuple[int, int], bytes] = {}
    bounds = offset_bounds(bootstrap, stage.output, stage.events.partitions)
    for batch in read_ranges(bootstrap, stage.output, bounds):
        for value in batch.values:
            assert value is not None
            record = msgspec.json.decode(value)
            at = record.get("origin", record["source"])
            stable = PLACE.sub(b"", value) if "origin" in record else value
            place = at["partition"], at["offset"]
            assert found.setdefault(place, stable) == stable, f"two records of {place} differ"
    return found
