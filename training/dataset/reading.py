"""What a training run learns from: ranges of the log, read, joined point in time, split by time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from features.definition import Definition
from streams.errors import TrainingError
from streams.stream import EventStream, LabelStream
from streams.topics import Topics
from training.dataset.build_examples import Bounds, build_examples
from training.dataset.columns import FeatureDecoder, LabelDecoder
from training.dataset.example_set import FORMAT, ExampleSet, opened, prune
from training.dataset.manifest import ReadRange, build_manifest
from training.dataset.prepared import PreparedData, prepare
from training.dataset.ranges import find_ranges, trimmed
from training.dataset.segments import SegmentStore
from training.networks.declared import events_seen
from training.networks.tasks import Regression, Task
from training.spec import Model, Training

Progress = Callable[[str], None]
"""Is told what happens, in one line for people."""

Ranges = tuple[ReadRange, ReadRange]
"""Of the features topic and of the labels topic."""


class Wanted(Protocol):
    """What is to be read; :class:`training.retraining.job.TrainingJob` says it."""

    @property
    def bootstrap(self) -> str: ...

    @property
    def topics(self) -> Topics: ...

    @property
    def definition(self) -> Definition: ...

    @property
    def events(self) -> EventStream: ...

    @property
    def labels(self) -> LabelStream: ...

    @property
    def model(self) -> Model: ...

    @property
    def training(self) -> Training: ...

    @property
    def cutoff_ms(self) -> int: ...

    @property
    def since_ms(self) -> int | None: ...

    @property
    def home(self) -> Path: ...

    @property
    def ranks(self) -> int: ...

    @property
    def ranges(self) -> Ranges | None: ...


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from, and the manifest that says where it came from."""

    prepared: PreparedData
    manifest: dict[str, Any]


def read_training_data(
    job: Wanted,
    progress: Progress = lambda _: None,
    check: Callable[[], None] = lambda: None,
) -> TrainingData:
    """Return the examples that ``job`` may learn from, and the manifest.

    Args:
        job: what is wanted.
        progress: is told what happens.
        check: is called all the time; what it raises ends the work.

    Raises:
        TrainingError: there are too few examples, or nothing to tell apart.
        BrokerError: Kafka fails.
        StateError: the features topic holds foreign records.
    """
    topics = job.topics
    features = SegmentStore(
        job.bootstrap,
        job.home,
        FeatureDecoder(topics.features, job.definition, job.events, job.labels),
    )
    labels = SegmentStore(
        job.bootstrap, job.home, LabelDecoder(topics.labels, job.labels, job.model.task)
    )
    ranges = job.ranges or _ranges(job, features, labels, progress, check)
    examples = _examples(job, features, labels, ranges, progress, check)
    if examples.counts["invalid_labels"]:
        progress(f"{examples.counts['invalid_labels']:,} labels can't be used and are left out")
    refuse_too_few(examples.counts, job.training.minimum_examples)
    prepared = prepare(examples, job.training.validation)
    refuse_single_value(prepared, job.model.task)
    manifest = build_manifest(
        pipeline=topics.name,
        definition_version=job.definition.version,
        definition_hash=job.definition.hash(job.events, job.labels),
        features=ranges[0],
        labels=ranges[1],
        since_ms=job.since_ms,
        cutoff_ms=job.cutoff_ms,
        label_cutoff_ms=job.cutoff_ms,
        ranks=job.ranks,
        model=job.model,
        training=job.training,
        counts={
            **examples.counts,
            "train": len(prepared.train),
            "validation": len(prepared.validation),
        },
        data_sha256=examples.data_sha256,
    )
    return TrainingData(prepared, manifest)


def refuse_too_few(counts: Mapping[str, int], minimum: int) -> None:
    """Raise TrainingError where fewer than ``minimum`` examples are labelled."""
    if counts["examples"] < minimum:
        raise TrainingError(
            f"{counts['examples']:,} labelled examples, but minimum_examples is {minimum:,}: "
            f"{counts['events_in_window']:,} events and {counts['known_labels']:,} usable labels "
            "lie in the window and were known at the cut-off; train later, on a longer window, or "
            "lower Training.minimum_examples"
        )


def refuse_single_value(prepared: PreparedData, task: Task) -> None:
    """Raise TrainingError where a slice has one class, or one number, only."""
    what = "number" if isinstance(task, Regression) else "class"
    for name, examples in (("training", prepared.train), ("validation", prepared.validation)):
        if examples.targets.min() == examples.targets.max():
            raise TrainingError(
                f"all {len(examples):,} examples of the {name} slice have the label "
                f"{examples.targets[0]:g}: nothing can be learnt or judged from one {what}; train "
                "later, on a longer window, or check the target expression of the label stream"
            )


def _ranges(
    job: Wanted,
    features: SegmentStore,
    labels: SegmentStore,
    progress: Progress,
    check: Callable[[], None],
) -> Ranges:
    """Return the ranges that hold all that may count, and end with something that does."""
    progress("finding the ranges in the log")
    wanted = find_ranges(job.bootstrap, job.topics, job.events.partitions, job.since_ms)
    ends = (job.cutoff_ms, job.cutoff_ms + 1)
    found = []
    for read, store, before_ms in zip(wanted, (features, labels), ends, strict=True):
        total = sum(end - first for first, end in read.offsets.values())
        progress(f"reading {total:,} records of {read.topic}")
        found.append(trimmed(read, _checked(store.tables(read.offsets), check), before_ms))
    return found[0], found[1]


def _examples(
    job: Wanted,
    features: SegmentStore,
    labels: SegmentStore,
    ranges: Ranges,
    progress: Progress,
    check: Callable[[], None],
) -> ExampleSet:
    """Return the joined examples: those of the same content on disk, or made now."""
    with_log = events_seen(job.model.network) > 0
    content = {
        "format": FORMAT,
        "features": [features.address, ranges[0].to_json()],
        "labels": [labels.address, ranges[1].to_json()],
        "bounds_ms": [job.since_ms, job.cutoff_ms],
        "with_log": with_log,
    }
    address = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]
    folder = job.home / "examples" / address
    found = opened(folder)
    if found is None:
        progress("joining features and labels")
        found = build_examples(
            folder,
            features.schema,
            labels.tables(ranges[1].offsets),
            features.tables(ranges[0].offsets),
            Bounds(job.since_ms, job.cutoff_ms, job.cutoff_ms),
            with_log=with_log,
            check=check,
        )
        prune(folder.parent)
    return found


def _checked(tables: Iterable[pa.Table], check: Callable[[], None]) -> Iterator[pa.Table]:
    for table in tables:
        check()
        yield table
