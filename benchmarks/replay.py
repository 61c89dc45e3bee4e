"""How many feature records a core turns into columns: from Kafka, and from cached segments.

    uv run python benchmarks/replay.py [--events N] [--json]

Feature records (JSON, six features, four partitions) and their labels are read the way a training
reads them: first from Kafka, which decodes them and writes the segments, then from the segments,
memory-mapped and checked; then what a training does before it fits: the join point in time into a
set of examples on disk, opening such a set, encoding it into the arrays that the ranks map, and
the batches of an epoch. A core's rate is records divided by the processor seconds (all threads) of
this process; the broker's own are not counted.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.place import place
from benchmarks.report import report
from features.aggregations import Count, Mean, Sum
from features.definition import Category, Definition, HourOfDay, Number
from features.records import FeatureCodec, FeatureRows
from streams.expressions import Value
from streams.kafka_client import producer
from streams.replay import offset_bounds, read_ranges
from streams.stream import EventStream, LabelStream
from streams.topics import Topics, ensure_topics
from training.dataset.build_examples import Bounds, build_examples
from training.dataset.columns import FeatureDecoder, LabelDecoder
from training.dataset.encoded import write_slices
from training.dataset.encoding import Encoding
from training.dataset.example_set import ExampleSet
from training.dataset.examples import SliceArrays
from training.dataset.order import EpochOrder
from training.dataset.prepared import prepare
from training.dataset.segments import SegmentStore
from training.spec import Model

PARTITIONS = 4
START_MS = 1_700_000_000_000
BATCH = 4096
GOALS = {"kafka_to_columns_per_core": 250_000, "segments_to_columns_per_core": 5_000_000}


class Payment(msgspec.Struct):
    """A card payment."""

    event_id: str
    card: str
    ts: int
    amount: float
    channel: str


class Verdict(msgspec.Struct):
    """Whether a payment was a fraud."""

    event_id: str
    card: str
    ts: int
    fraud: bool


EVENTS = EventStream(Payment, "event_id", "card", "ts", partitions=PARTITIONS)
LABELS = LabelStream(Verdict, "event_id", "card", "ts", target=Value("fraud"))
DEFINITION = Definition(
    1,
    {
        "count_5m": Count("5m", "1m"),
        "sum_5m": Sum(Value("amount"), "5m", "1m"),
        "mean_5m": Mean(Value("amount"), "5m", "1m"),
        "amount": Number(Value("amount")),
        "hour": HourOfDay(),
        "channel": Category("channel"),
    },
)

PACKAGES = ("confluent-kafka", "msgspec", "pyarrow", "numpy")


def main() -> None:
    """Measure, print a table, and with --json one object on the last line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with place() as (bootstrap, folder):
        figures = measure(bootstrap, folder, options.events)
    report("Replay: feature records per second of one core", figures, GOALS, PACKAGES, options.json)


def measure(bootstrap: str, home: Path, events: int) -> dict[str, int]:
    """Return the figures; rates in records per second of one core."""
    topics = Topics(f"bench{uuid4().hex[:8]}", DEFINITION.version)
    ensure_topics(bootstrap, topics.specs(PARTITIONS))
    fill(bootstrap, topics, events)
    ranges = offset_bounds(bootstrap, topics.features, PARTITIONS)
    label_ranges = offset_bounds(bootstrap, topics.labels, PARTITIONS)
    features = FeatureDecoder(topics.features, DEFINITION, EVENTS)
    labels = LabelDecoder(topics.labels, LABELS)

    def client_alone() -> int:
        return sum(len(batch) for batch in read_ranges(bootstrap, topics.features, ranges))

    def columns(name: str = "home") -> int:
        tables = SegmentStore(bootstrap, home / name, features).tables(ranges)
        return sum(table.num_rows for table in tables)

    def examples() -> ExampleSet:
        cutoff_ms = START_MS + 10 * events
        return build_examples(
            home / "examples",
            features.schema,
            SegmentStore(bootstrap, home / "home", labels).tables(label_ranges),
            SegmentStore(bootstrap, home / "home", features).tables(ranges),
            Bounds(None, cutoff_ms, cutoff_ms),
        )

    columns("warm-up")  # the broker's page cache and what is imported at first use
    rates = {"kafka_client_alone": per_core(client_alone, events)}
    rates["kafka_to_columns"] = per_core(columns, events)
    rates["segments_to_columns"] = per_core(columns, events)
    prepared = prepare(examples(), 0.15)  # makes the labels' segments, and compiles
    rates["segments_to_examples"] = per_core(examples, events)
    rates["examples_opened_and_checked"] = per_core(
        lambda: ExampleSet.open(home / "examples"), events
    )
    encoding = Encoding.fit(prepared.numeric_names, prepared.category_names, prepared.train)

    def encoded() -> None:
        write_slices(home / "run", prepared, encoding, Model(), 7)

    rates["examples_to_arrays"] = per_core(encoded, events)
    train = SliceArrays.open(home / "run", "train")

    def epoch() -> None:
        order = EpochOrder(len(train), BATCH, 7, 0)
        for step in range(order.steps):
            train.batch(order.batch(step))

    epoch()
    rates["arrays_to_batches"] = per_core(epoch, len(train))
    return {**{f"{name}_per_core": rate for name, rate in rates.items()}, "events": events}


def per_core(work: Callable[[], object], records: int) -> int:
    """Return ``records`` per processor second of ``work``."""
    started_s = time.process_time()
    work()
    return round(records / (time.process_time() - started_s))


def fill(bootstrap: str, topics: Topics, n: int) -> None:
    """Append ``n`` feature records, as the feature worker writes them, and their labels."""
    client = producer(bootstrap, linger_ms=5, queue_buffering_max_messages=2 * n)
    codec = FeatureCodec(DEFINITION, EVENTS)
    rng = np.random.default_rng(7)
    for partition in range(PARTITIONS):
        numbers = np.arange(partition, n, PARTITIONS)
        rows = FeatureRows(
            partition=partition,
            event_ids=[f"e{i:09d}" for i in numbers],
            entities=[f"c{card:05d}" for card in rng.integers(0, 10_000, len(numbers))],
            event_times_ms=START_MS + 10 * numbers,
            source_offsets=np.arange(len(numbers)),
            numeric=rng.exponential(40, (len(numbers), 4)).round(2),
            categories=[[str(i % 24) for i in numbers], ["web"] * len(numbers)],
            groups=[],
        )
        times = rows.event_times_ms.tolist()
        for key, value, time_ms in zip(rows.entities, codec.encode(rows), times, strict=True):
            client.produce(topics.features, value, key.encode(), partition, timestamp=time_ms)
        for i, key, time_ms in zip(numbers, rows.entities, times, strict=True):
            label = Verdict(f"e{i:09d}", key, time_ms, bool(i % 7 == 0))
            value = msgspec.json.encode(label)
            client.produce(topics.labels, value, key.encode(), partition, timestamp=time_ms)
        if client.flush(120):
            raise SystemExit(f"the broker did not take the records of {topics.name}")


if __name__ == "__main__":
    main()
