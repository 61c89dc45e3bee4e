"""A Transformer over an entity's last events, from the log to the answers, on a real broker.

The label of a sale is the sign of what the two sales before it in the same shop came to, so the
sale alone tells nothing.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from features.definition import Category, Definition, Number
from features.records import FeatureCodec, FeatureRows
from streams.expressions import Above, Value
from streams.kafka_client import producer
from streams.replay import offset_bounds, read_ranges
from streams.stream import EventStream, LabelStream
from streams.topics import Topics
from streams.wire import Prediction, Registered
from tests.serving.feature_stream import (
    PARTITIONS,
    T0_MS,
    append,
    committed_answers,
    live,
    new_pipeline,
    shadow,
    wait_activated,
    wait_drained,
    working,
)
from tests.serving.history_stream import with_repeats
from training.dataset.histories import EventValues, Histories
from training.loop.launch import WarmRanks
from training.networks.declared import Network, Tabular, Transformer
from training.package import Package, load_package
from training.retraining.job import TrainedModel, TrainingJob, run_training
from training.spec import Model, Training

pytestmark = pytest.mark.broker
LEARNT = 1_600  # events per partition
ALL = 2_000
LAST = 8


class Sale(msgspec.Struct):
    """The event."""

    id: str
    shop: str
    at_ms: int
    amount: float
    kind: str


class Outcome(msgspec.Struct):
    """The label; one sale in ten gets none."""

    id: str
    shop: str
    at_ms: int
    result: float


EVENTS = EventStream(Sale, id="id", entity="shop", event_time="at_ms", partitions=PARTITIONS)
LABELS = LabelStream(Outcome, id="id", entity="shop", event_time="at_ms", target=Above("result", 0))
DEFINITION = Definition(1, {"amount": Number(Value("amount")), "kind": Category("kind")})


@dataclass(frozen=True)
class Learned:
    """The pipeline and what was trained on it."""

    topics: Topics
    home: Path
    sequence: TrainedModel
    alone: TrainedModel


def rows(partition: int, sources: list[int]) -> FeatureRows:
    """Return the rows of the sales at ``sources``; a function of place alone."""
    at, n = np.array(sources, np.int64), len(sources)
    amounts = np.random.default_rng(partition).normal(size=ALL)[at]
    shops = np.random.default_rng(partition + 9).integers(0, 25, ALL)[at]
    return FeatureRows(
        partition=partition,
        event_ids=[f"e{partition}-{i}" for i in sources],
        entities=[f"shop {partition}/{i}" for i in shops],
        event_times_ms=T0_MS + 1000 * at,
        source_offsets=at,
        numeric=amounts.reshape(n, 1),
        categories=[[f"kind {i % 3}" for i in sources]],
        groups=[],
    )


def fill(bootstrap: str, topics: Topics, begin: int, end: int) -> None:
    """Append sales and, in the same partitions, their outcomes."""
    client = producer(bootstrap)
    codec = FeatureCodec(DEFINITION, EVENTS)
    for partition in range(PARTITIONS):
        made = rows(partition, with_repeats(begin, end, partition))
        for value, at_ms in zip(codec.encode(made), made.event_times_ms.tolist(), strict=True):
            client.produce(topics.features, value, b"k", partition, timestamp=at_ms)
        every = rows(partition, list(range(end)))
        before: dict[str, list[float]] = {}
        for i, (shop, amount) in enumerate(zip(every.entities, every.numeric[:, 0], strict=True)):
            result = sum(before.setdefault(shop, [])[-2:])
            before[shop].append(float(amount))
            if i >= begin and i % 10:
                at_ms = T0_MS + 1000 * i + 500
                label = Outcome(every.event_ids[i], shop, at_ms, result)
                value = msgspec.json.encode(label)
                client.produce(topics.labels, value, b"k", partition, timestamp=at_ms)
    assert client.flush(30) == 0


@pytest.fixture(scope="module")
def learned(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Learned:
    topics, home = new_pipeline(bootstrap), tmp_path_factory.mktemp("home")
    fill(bootstrap, topics, 0, LEARNT)
    with WarmRanks() as launch:
        networks: list[Network] = [
            Transformer(last=LAST, width=16, layers=1, heads=2), Tabular(hidden=(16,))
        ]  # fmt: skip
        sequence, alone = (
            run_training(job(bootstrap, topics, home, network), launch=launch)
            for network in networks
        )
    return Learned(topics, home, sequence, alone)


def job(bootstrap: str, topics: Topics, home: Path, network: Network) -> TrainingJob:
    return TrainingJob(
        bootstrap, topics, DEFINITION, EVENTS, LABELS,
        Model(network=network, epochs=5, patience=5, batch=64, learning_rate=1e-2),
        Training(window=None, minimum_examples=100),
        cutoff_ms=T0_MS + 1000 * LEARNT, home=home, command_id="test", ranks=1,
    )  # fmt: skip


def registered(version: int, model: TrainedModel) -> Registered:
    return Registered(
        version, f"c{version}", model.package.as_uri(), model.sha256, model.manifest, {}, None, 1
    )


def replayed(bootstrap: str, topics: Topics, package: Package) -> dict[str, float]:
    """Return what the package answers to the log, offline and one event after the other."""
    codec = FeatureCodec(DEFINITION, EVENTS)
    values, texts, ids = list[list[float]](), list[str](), list[str]()
    index: list[list[int]] = []
    for p in range(PARTITIONS):
        newest, seen = -1, dict[str, list[int]]()
        bounds = offset_bounds(bootstrap, topics.features, PARTITIONS)[p]
        for batch in read_ranges(bootstrap, topics.features, {p: bounds}):
            found = codec.decode(batch)
            for i, source in enumerate(found.source_offsets.tolist()):
                if source <= newest:
                    continue
                newest = source
                mine = seen.setdefault(found.entities[i], [])
                mine.append(len(ids))
                values.append(found.numeric[i].tolist())
                texts.append(found.categories[0][i])
                ids.append(found.event_ids[i])
                index.append([-1] * (LAST - len(mine[-LAST:])) + mine[-LAST:])
    asked = Histories(EventValues(np.array(values), [texts]), np.array(index))
    return dict(zip(ids, package.predict(asked).tolist(), strict=True))


def scores(answers: list[Prediction], version: int) -> dict[str, float]:
    return {a.event_id: a.score for a in answers if a.model_version == version}


def test_it_learns_what_the_event_alone_does_not_tell(learned: Learned) -> None:
    sequence, alone = learned.sequence.metrics, learned.alone.metrics
    assert alone["log_loss"] > 0.65
    assert sequence["log_loss"] < 0.35
    assert sequence["n_train"] == alone["n_train"]


def test_what_is_served_is_what_the_log_gives_with_the_package_to_the_bit(
    bootstrap: str, learned: Learned, tmp_path: Path
) -> None:
    topics = learned.topics
    append(bootstrap, topics, registered(1, learned.alone), live(1))
    work = partial(
        working, bootstrap, topics, loader=None, definitions=(DEFINITION,), home=tmp_path,
        events=EVENTS,
    )  # fmt: skip
    with work(max_batch=900):
        wait_drained(bootstrap, topics)
        append(bootstrap, topics, registered(2, learned.sequence), live(2))
        since = wait_activated(bootstrap, topics, 2)
        fill(bootstrap, topics, LEARNT, LEARNT + 100)
    with work(max_batch=77), work(worker="w1", max_batch=130):
        fill(bootstrap, topics, LEARNT + 100, ALL)
        wait_drained(bootstrap, topics)
    package = load_package(learned.sequence.package.as_uri())
    wanted = replayed(bootstrap, topics, package)
    assert len(wanted) == ALL * PARTITIONS
    answers = committed_answers(bootstrap, topics.predictions)
    served = scores(answers, 2)
    assert len(answers) == ALL * PARTITIONS
    assert len(served) == (ALL - LEARNT) * PARTITIONS
    assert served == {event: wanted[event] for event in served}
    assert since.positions.keys() == {"0", "1"}
    # A shadow that replays the past says the same.
    append(bootstrap, topics, shadow(2, {}))
    with work(role="shadow", worker="s0", max_batch=1500):
        wait_drained(bootstrap, topics, "shadow")
    assert scores(committed_answers(bootstrap, topics.shadow), 2) == wanted
