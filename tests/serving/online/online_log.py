"""What the tests of online learning share: a small pipeline, its base version and its logs.

Whether a sale is returned is a matter of its ``heat``: above 0 it is. ``noise`` tells nothing.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.definition import Category, Definition, Number
from features.records import FeatureCodec, FeatureRows
from serving.online.declared import Online
from serving.online.worker import OnlineWorker
from serving.pipeline import Pipeline
from serving.rollout.declared import RolloutPolicy
from streams.control import ControlFollower, ControlWriter, decode_model_events
from streams.expressions import Above, Value
from streams.kafka_client import producer
from streams.rollout import Rollout
from streams.stream import EventStream, LabelStream
from streams.topics import ensure_topics
from streams.wire import ModelEvent, Outcome, Registered, Source, Stage, StageChanged
from training.calibration import begin_calibration
from training.dataset.encoding import Encoding
from training.dataset.histories import EventValues
from training.networks.declared import Network, Tabular
from training.networks.shape import Shape
from training.networks.tasks import Binary, Task
from training.package import Parts, load_parts, save_package
from training.reference import Reference
from training.spec import Model
from training.standard import Standard

T0_MS = 1_577_836_800_000  # 2020-01-01 UTC
CUTOFF_MS = T0_MS + 10_000
TABULAR = Tabular(hidden=(8,))


class Sale(msgspec.Struct):
    """The event."""

    id: str
    shop: str
    at_ms: int
    heat: float
    noise: float
    kind: str


class Return(msgspec.Struct):
    """The label."""

    id: str
    shop: str
    at_ms: int
    returned: float


LABELS = LabelStream(
    Return, id="id", entity="shop", event_time="at_ms", target=Above("returned", 0)
)
DEFINITION = Definition(
    1,
    {
        "heat": Number(Value("heat")),
        "noise": Number(Value("noise")),
        "kind": Category("kind"),
    },
)


def new_pipeline(
    bootstrap: str,
    online: Online,
    partitions: int = 1,
    network: Network = TABULAR,
    rollout: RolloutPolicy | None = None,
) -> Pipeline:
    """Return a pipeline that no other test uses, its topics created."""
    events = EventStream(Sale, id="id", entity="shop", event_time="at_ms", partitions=partitions)
    made = Pipeline(
        f"t{uuid4().hex[:8]}", events, LABELS, DEFINITION, Model(network=network),
        online=online, rollout=rollout,
    )  # fmt: skip
    ensure_topics(bootstrap, made.topics.specs(partitions))
    return made


def sales(n: int, seed: int = 1) -> tuple[NDArray[np.float64], list[str]]:
    """Return numbers (n, 2) and kinds of n sales."""
    drawn = np.random.default_rng(seed)
    kinds = drawn.choice(["shoe", "hat", "coat"], n)
    return drawn.normal(size=(n, 2)), kinds.tolist()


def returned(numeric: NDArray[np.float64], flipped: slice = slice(0, 0)) -> NDArray[np.float64]:
    """Return the targets (n,) of sales, those in ``flipped`` the wrong way round."""
    targets = (numeric[:, 0] > 0).astype(np.float64)
    targets[flipped] = 1 - targets[flipped]
    return targets


def base_parts(network: Network = TABULAR, task: Task | None = None, seed: int = 3) -> Parts:
    """Return what a package of an untrained network holds."""
    import torch

    from training.networks.build import build

    numeric, kinds = sales(500)
    encoding = Encoding.fit(("heat", "noise"), ("kind",), EventValues(numeric, [kinds]))
    task = task or Binary()
    shape = Shape(encoding.numeric_width, encoding.code_counts, network, task.outputs)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        weights = {k: v.detach().numpy().copy() for k, v in build(shape).state_dict().items()}
    calibration = begin_calibration(task, (0.0,), Standard())
    manifest = {
        "definition": {"version": 1, "hash": "x"},
        "cutoff_ms": CUTOFF_MS, "label_cutoff_ms": CUTOFF_MS,
    }  # fmt: skip
    return Parts(manifest, task, shape, encoding, calibration, weights, None)


def inputs_of(
    parts: Parts, numeric: NDArray[np.float64], kinds: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the inputs of sales."""
    return parts.encoding.numeric_inputs(numeric), parts.encoding.codes([kinds], len(kinds))


def register_base(
    bootstrap: str, pipeline: Pipeline, home: Path, parts: Parts, version: int = 1
) -> Registered:
    """Save ``parts`` as a version, put it live, and return its record."""
    numeric, kinds = sales(500)
    folder = (home / "models" / f"base-{version}").resolve()
    sha256 = save_package(
        folder, weights=parts.weights, shape=parts.shape, task=parts.task,
        encoding=parts.encoding, calibration=parts.calibration,
        reference=Reference.from_columns(
            [EventValues(numeric, [kinds])], ("heat", "noise"), ("kind",)
        ),
        metrics={}, manifest=parts.manifest,
    )  # fmt: skip
    event = Registered(
        version, f"train-{version}", folder.as_uri(), sha256, dict(parts.manifest), {}, None
    )
    append(bootstrap, pipeline, event, StageChanged(version, "live", "a test", by="trainer"))
    return event


def append(bootstrap: str, pipeline: Pipeline, *events: ModelEvent) -> None:
    """Append to the control log."""
    writer = ControlWriter(bootstrap)
    for event in events:
        writer.append_model_event(pipeline.topics.models, event)


def emit(
    bootstrap: str,
    pipeline: Pipeline,
    numeric: NDArray[np.float64],
    kinds: Sequence[str],
    targets: NDArray[np.float64],
    first: int = 0,
    partition: int = 0,
    stage: Stage = "live",
    cutoff_ms: int = CUTOFF_MS,
) -> None:
    """Append the feature records and the outcomes of n sales, numbered from ``first``."""
    emit_features(bootstrap, pipeline, numeric, kinds, first, partition, cutoff_ms)
    client = producer(bootstrap)
    numbers = range(first, first + len(targets))
    shops = [f"shop{i % 7}" for i in numbers]
    for i, shop, target in zip(numbers, shops, targets.tolist(), strict=True):
        client.produce(
            pipeline.topics.outcomes,
            msgspec.json.encode(outcome(i, shop, target, partition, stage, cutoff_ms)),
            shop,
            partition,
            timestamp=cutoff_ms + i + 1,
        )
    assert client.flush(30) == 0


def emit_features(
    bootstrap: str,
    pipeline: Pipeline,
    numeric: NDArray[np.float64],
    kinds: Sequence[str],
    first: int = 0,
    partition: int = 0,
    cutoff_ms: int = CUTOFF_MS,
) -> None:
    """Append the feature records of n sales, numbered from ``first``."""
    numbers = np.arange(first, first + len(numeric))
    shops = [f"shop{i % 7}" for i in numbers.tolist()]
    rows = FeatureRows(
        partition, [f"e{partition}-{i}" for i in numbers], shops, cutoff_ms + numbers, numbers,
        numeric, [list(kinds)], [],
    )  # fmt: skip
    codec = FeatureCodec(DEFINITION, pipeline.events, pipeline.labels)
    client = producer(bootstrap)
    for value, shop in zip(codec.encode(rows), shops, strict=True):
        client.produce(pipeline.topics.features, value, shop, partition)
    assert client.flush(30) == 0


def outcome(
    number: int, shop: str, target: float, partition: int, stage: Stage, cutoff_ms: int
) -> Outcome:
    """Return the outcome of the sale with that number."""
    return Outcome(
        f"{partition}-{number}-{stage}", f"e{partition}-{number}", shop, 0.5, target, 1, stage, 1,
        cutoff_ms + number, cutoff_ms + number + 1, Source(partition, number),
        Source(partition, number), number, partition,
    )  # fmt: skip


def rollout_of(bootstrap: str, pipeline: Pipeline) -> Rollout:
    """Return what the control log says."""
    return Rollout().apply_all(events_of(bootstrap, pipeline))


def events_of(bootstrap: str, pipeline: Pipeline) -> list[ModelEvent]:
    """Return the records of the control log."""
    follower = ControlFollower(bootstrap, pipeline.topics.models)
    try:
        return decode_model_events(follower.catch_up())
    finally:
        follower.close()


def parts_of(event: Registered) -> Parts:
    """Return what a registered version's package holds."""
    return load_parts(event.uri, event.sha256)


def learn_until(worker: OnlineWorker, learned: int) -> None:
    """Let a worker work until it has learned from so many outcomes."""
    work_until(
        worker, lambda: worker.course is not None and worker.course.learner.learned >= learned
    )


def work_until(worker: OnlineWorker, is_over: Callable[[], bool], timeout_s: float = 240) -> None:
    """Let a worker work until that is so."""
    deadline = time.monotonic() + timeout_s
    while not is_over():
        assert time.monotonic() < deadline, "the worker does not get there"
        worker.turn()


@contextmanager
def worker_on(bootstrap: str, pipeline: Pipeline, home: Path) -> Iterator[OnlineWorker]:
    """Give a worker that is let go of without a last save, as a crash would."""
    worker = OnlineWorker(bootstrap, pipeline, home)
    try:
        yield worker
    finally:
        worker.close()


def with_weights(parts: Parts, weights: dict[str, NDArray[np.float32]]) -> Parts:
    """Return parts of other weights."""
    return replace(parts, weights=weights)
