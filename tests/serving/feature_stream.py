"""What the tests of inference share: a small pipeline's features topic, and workers on it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.aggregations import Count
from features.definition import Category, Definition
from features.records import FeatureCodec, FeatureRows
from serving.inference.loading import Loader
from serving.inference.router import Role
from serving.inference.worker import run_inference
from streams.control import ControlFollower, ControlWriter, decode_model_events
from streams.cutover import Cutovers
from streams.kafka_client import producer
from streams.positions import PositionReader
from streams.replay import offset_bounds, read_ranges
from streams.rollout import Rollout
from streams.stream import EventStream
from streams.topics import Topics, ensure_topics
from streams.wire import Activated, ModelEvent, Positions, Prediction, Registered, StageChanged
from training.spec import Model

PARTITIONS = 2
PRIOR = 0.25
T0_MS = 1_577_836_800_000  # 2020-01-01 UTC


class Sale(msgspec.Struct):
    """The event."""

    id: str
    shop: str
    at_ms: int
    till: str = ""


EVENTS = EventStream(Sale, id="id", entity="shop", event_time="at_ms", partitions=PARTITIONS)
DEFINITION = Definition(
    version=1, features={"shop": Category("shop"), "sales_1h": Count(over="1h", tile="5m")}
)
V2 = Definition(
    version=2, features={"shop": Category("shop"), "sales_2h": Count(over="2h", tile="5m")}
)
REKEYED = Definition(
    version=3,
    features={"shop": Category("shop"), "till_1h": Count(over="1h", tile="5m", by="till")},
)


def new_pipeline(bootstrap: str, *further: Definition) -> Topics:
    """Return the topics, created, of a pipeline that no other test uses."""
    topics = Topics(f"t{uuid4().hex[:8]}")
    ensure_topics(bootstrap, topics.specs(PARTITIONS))
    for definition in further:
        ensure_topics(bootstrap, of(topics, definition).specs(PARTITIONS))
    return topics


def of(topics: Topics, definition: Definition) -> Topics:
    """Return the topics as the definition has them."""
    return replace(topics, definition=definition.version)


def rows(partition: int, sources: range | list[int]) -> FeatureRows:
    """Return the feature rows of the events at ``sources``; a function of place alone."""
    offsets = list(sources)
    n = len(offsets)
    return FeatureRows(
        partition=partition,
        event_ids=[f"e{partition}-{offset}" for offset in offsets],
        entities=[f"shop{partition}"] * n,
        event_times_ms=np.array([T0_MS + 1000 * offset for offset in offsets], np.int64),
        source_offsets=np.array(offsets, np.int64),
        numeric=np.array([[offset % 7] for offset in offsets], np.float64).reshape(n, 1),
        categories=[[f"shop{partition}"] * n],
        groups=[],
    )


def emit(
    bootstrap: str,
    topics: Topics,
    partition: int,
    sources: range | list[int],
    headers: list[tuple[str, str | bytes | None]] | None = None,
    transactional_id: str | None = None,
    definition: Definition = DEFINITION,
    origins: list[tuple[int, int]] | None = None,
    entities: list[str] | None = None,
) -> None:
    """Append the feature records of the events at ``sources``, in one transaction if it has an id.

    A transaction leaves a control record behind them. ``origins`` are where the events of a
    re-keyed definition stand in the events topic, ``entities`` whose they are.
    """
    made = rows(partition, sources)
    if entities is not None:
        made = replace(made, entities=entities)
    if origins is not None:
        made = replace(
            made,
            event_ids=[f"e{p}-{offset}" for p, offset in origins],
            origin_partitions=np.array([p for p, _ in origins], np.int64),
            origin_offsets=np.array([offset for _, offset in origins], np.int64),
        )
    codec = FeatureCodec(definition, EVENTS)
    options = {} if transactional_id is None else {"transactional_id": transactional_id}
    client = producer(bootstrap, **options)
    if transactional_id is not None:
        client.init_transactions(30)
        client.begin_transaction()
    for value, entity, at_ms in zip(
        codec.encode(made), made.entities, made.event_times_ms.tolist(), strict=True
    ):
        client.produce(
            of(topics, definition).features,
            value,
            entity,
            partition,
            timestamp=at_ms,
            headers=list(headers or []),
        )
    assert client.flush(30) == 0
    if transactional_id is not None:
        client.commit_transaction(30)


def append(bootstrap: str, topics: Topics, *events: ModelEvent) -> None:
    """Append to the control log."""
    writer = ControlWriter(bootstrap)
    for event in events:
        writer.append_model_event(topics.models, event)


def registered(version: int, definition: int = 1) -> Registered:
    """Return the registration of a version that the tests' loader knows."""
    return Registered(
        version, f"c{version}", f"memory:{version}", "0" * 64, {}, {}, None, definition
    )


def live(version: int) -> StageChanged:
    """Return the event that puts a version live."""
    return StageChanged(version, "live", "a test")


def shadow(version: int, since: Positions) -> StageChanged:
    """Return the event that puts a version into shadow."""
    return StageChanged(version, "shadow", "a test", since)


def score_of(version: int) -> float:
    """Return what the tests' model of a version answers."""
    return version / 100


def load(event: Registered) -> "ConstantModel":
    """Load the tests' model of a version."""
    return ConstantModel(score_of(event.version))


class ConstantModel:
    """The same score for every row."""

    def __init__(self, score: float) -> None:
        self.score = score

    def __call__(self, rows: FeatureRows) -> NDArray[np.float64]:
        """Return (n,) scores."""
        return np.full(len(rows), self.score)


@contextmanager
def working(
    bootstrap: str,
    topics: Topics,
    role: Role = "inference",
    worker: str = "w0",
    loader: Loader | None = load,
    max_batch: int = 10_000,
    definitions: tuple[Definition, ...] = (DEFINITION,),
    home: Path = Path(),
    events: EventStream = EVENTS,
) -> Iterator[threading.Thread]:
    """Run a worker in a thread; what it raises is raised at the end. Without ``loader`` it loads
    packages."""
    stop, raised = threading.Event(), []

    def target() -> None:
        try:
            run_inference(
                bootstrap, topics, definitions, events, Model(prior=PRIOR), home, role, worker,
                max_batch, load=loader, stop=stop,
            )  # fmt: skip
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
        if raised:  # rather than what the body says: it may have waited for a worker that is gone
            raise raised[0]


def wait_drained(
    bootstrap: str, topics: Topics, role: str = "inference", definition: Definition = DEFINITION
) -> None:
    """Wait until the role's group has committed the end of the definition's features topic."""
    features = of(topics, definition).features
    reader = PositionReader(bootstrap)
    deadline = time.monotonic() + 60
    try:
        while lag := reader.lag(topics.group(role), {features: PARTITIONS})[features]:
            assert time.monotonic() < deadline, f"lag {lag} after 60 s"
            time.sleep(0.02)
    finally:
        reader.close()


def wait_activated(bootstrap: str, topics: Topics, version: int) -> Activated:
    """Wait until a worker says that it answers with ``version``."""
    return _wait_for(bootstrap, topics, lambda event: event.version == version)


def wait_announced(bootstrap: str, topics: Topics, wanted: Activated) -> None:
    """Wait until a worker says exactly that."""
    _wait_for(bootstrap, topics, lambda event: event == wanted)


def wait_switched(bootstrap: str, topics: Topics, change: int = 1) -> Cutovers:
    """Wait until an order of another definition has taken effect everywhere."""
    follower, rollout = ControlFollower(bootstrap, topics.models), Rollout()
    deadline = time.monotonic() + 60
    try:
        while len(rollout.cutovers.orders) < change or rollout.cutovers.undecided():
            rollout = rollout.apply_all(decode_model_events(follower.poll(0.1)))
            assert time.monotonic() < deadline, "the order did not take effect in 60 s"
        return rollout.cutovers
    finally:
        follower.close()


def _wait_for(bootstrap: str, topics: Topics, wanted: Callable[[Activated], bool]) -> Activated:
    follower = ControlFollower(bootstrap, topics.models)
    deadline = time.monotonic() + 60
    try:
        while True:
            for event in decode_model_events(follower.poll(0.1)):
                if isinstance(event, Activated) and wanted(event):
                    return event
            assert time.monotonic() < deadline, "no worker says so after 60 s"
    finally:
        follower.close()


def control_log(bootstrap: str, topics: Topics) -> list[ModelEvent]:
    """Return all of the control log."""
    follower = ControlFollower(bootstrap, topics.models)
    try:
        return decode_model_events(follower.catch_up())
    finally:
        follower.close()


def committed_answers(bootstrap: str, topic: str) -> list[Prediction]:
    """Return what read_committed readers see, partition by partition in log order."""
    decoder = msgspec.json.Decoder(Prediction)
    bounds = offset_bounds(bootstrap, topic, PARTITIONS)
    return [
        decoder.decode(value)
        for batch in read_ranges(bootstrap, topic, bounds)
        for value in batch.values
        if value is not None
    ]
