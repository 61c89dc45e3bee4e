"""The whole way on a real broker: features, both inference roles, labels, outcomes, verdicts."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from features.records import FeatureRows
from serving.feedback.worker import OutcomesWorker
from serving.pipeline import Pipeline
from serving.rollout.declared import Guardrails, RolloutPolicy
from serving.rollout.worker import RolloutWorker
from streams.assignment import versions_of
from streams.expressions import Value
from streams.kafka_client import producer
from streams.positions import PositionReader
from streams.rollout import Rollout
from streams.stream import LabelStream
from streams.topics import Topics
from streams.wire import Arm, Registered, Routing, StageChanged
from tests.serving.feature_stream import (
    DEFINITION,
    EVENTS,
    PARTITIONS,
    T0_MS,
    append,
    committed_answers,
    control_log,
    emit,
    live,
    new_pipeline,
    registered,
    working,
)

pytestmark = pytest.mark.broker
NOISE = {1: 1.5, 2: 0.2}
STEP = 600
POLICY = RolloutPolicy(
    shares=(0.3,), margin=0.02, minimum=100, guardrails=Guardrails(psi=None, latency_ratio=None)
)
Floats = NDArray[np.float64]


class Sold(msgspec.Struct):
    """The label."""

    id: str
    shop: str
    at_ms: int
    good: float


LABELS = LabelStream(Sold, id="id", entity="shop", event_time="at_ms", target=Value("good"))


def drawn(partition: int, offsets: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Return the log odds, labels and a noise of events, a function of their place alone."""
    places = [np.random.default_rng([partition, n]) for n in offsets.tolist()]
    odds = np.array([place.normal(-0.5, 1.2) for place in places])
    labels = np.array([place.random() for place in places]) < 1 / (1 + np.exp(-odds))
    return odds, labels.astype(np.float64), np.array([place.normal() for place in places])


class Noisy:
    """Answers with the log odds, missed by the version's noise."""

    def __init__(self, version: int) -> None:
        self._version = version

    def __call__(self, rows: FeatureRows) -> Floats:
        odds, _, noise = drawn(rows.partition, rows.source_offsets)
        told: Floats = 1 / (1 + np.exp(-(odds + NOISE[self._version] * noise)))
        return told


def load(event: Registered) -> Noisy:
    return Noisy(event.version)


class Runs(Protocol):
    """A worker."""

    def run(self, stop: threading.Event) -> None: ...
    def close(self) -> None: ...


@contextmanager
def running(worker: Runs) -> Iterator[None]:
    """Run a worker in a thread; what it raises is raised at the end."""
    stop, raised = threading.Event(), []

    def target() -> None:
        try:
            worker.run(stop)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        worker.close()
    assert raised == []


def wait_drained(bootstrap: str, topics: Topics) -> None:
    """Wait until all that was emitted has gone through the workers, one after the other."""
    inputs = {
        "inference": (topics.features,),
        "shadow": (topics.features,),
        "outcomes": (topics.predictions, topics.shadow, topics.labels),
        "rollout": (topics.outcomes,),
    }
    reader = PositionReader(bootstrap)
    deadline = time.monotonic() + 120
    try:
        for role, names in inputs.items():
            while any(reader.lag(topics.group(role), dict.fromkeys(names, PARTITIONS)).values()):
                assert time.monotonic() < deadline, f"{role} is behind after 120 s"
                time.sleep(0.05)
    finally:
        reader.close()


def play(bootstrap: str, pipeline: Pipeline, begin: int) -> None:
    """Let the events from ``begin`` on happen in each partition, and their labels come."""
    client = producer(bootstrap)
    for partition in range(PARTITIONS):
        sources = range(begin, begin + STEP)
        entities = [f"shop{n % 500}" for n in sources]
        emit(bootstrap, pipeline.topics, partition, sources, entities=entities)
        _, labels, _ = drawn(partition, np.array(sources))
        for n, label in zip(sources, labels.tolist(), strict=True):
            sold = Sold(f"e{partition}-{n}", f"shop{n % 500}", T0_MS + 1000 * n + 500, label)
            client.produce(pipeline.topics.labels, msgspec.json.encode(sold), sold.shop, partition)
    assert client.flush(30) == 0


def test_a_better_model_comes_to_be_live_by_itself(bootstrap: str, tmp_path: Path) -> None:
    topics = new_pipeline(bootstrap)
    pipeline = Pipeline(topics.name, EVENTS, LABELS, DEFINITION, rollout=POLICY)
    append(bootstrap, topics, registered(1), live(1))

    def rollout() -> Rollout:
        return Rollout().apply_all(control_log(bootstrap, topics))

    begin = 0
    with ExitStack() as stack:
        stack.enter_context(working(bootstrap, topics, "inference", loader=load))
        stack.enter_context(working(bootstrap, topics, "shadow", loader=load))
        stack.enter_context(running(OutcomesWorker(bootstrap, pipeline, tmp_path)))
        stack.enter_context(running(RolloutWorker(bootstrap, pipeline, tmp_path)))
        play(bootstrap, pipeline, begin)
        wait_drained(bootstrap, topics)
        since = {str(p): STEP for p in range(PARTITIONS)}
        change = StageChanged(2, "shadow", "a test", since, by="trainer", change=1)
        append(bootstrap, topics, registered(2), change)
        while rollout().live == 1:
            begin += STEP
            assert begin < 15 * STEP, rollout().judged
            play(bootstrap, pipeline, begin)
            wait_drained(bootstrap, topics)
    events = control_log(bootstrap, topics)
    steps = [e for e in events if isinstance(e, StageChanged) and e.by == "policy"]
    assert [(e.stage, e.share, e.change) for e in steps] == [("canary", 0.3, 2), ("live", None, 3)]
    evidence = steps[1].evidence or {}
    assert evidence["arms"]["challenger_n"] >= POLICY.minimum
    assert evidence["entities"]["p"] > 0.001
    # Who was answered in canary is who had to be by the log, and these outcomes were counted.
    canary = [p for p in committed_answers(bootstrap, topics.predictions) if p.stage == "canary"]
    routing = Routing(1, steps[0].salt, (Arm(2, "canary", 0.3),))
    assert {p.model_version for p in canary} == {2}
    assert set(versions_of(routing, [p.entity for p in canary]).tolist()) == {2}
    assert evidence["arms"]["challenger_n"] <= len(canary)
