"""What a training run learns from: ranges of the log, read, joined point in time, split by time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from features.definition import Definition
from streams.errors import TrainingError
from streams.stream import EventStream, LabelStream
from streams.topics import Topics
from training.dataset.columns import FeatureDecoder, LabelDecoder, LogDecoder
from training.dataset.join import Joined, digest, join, prepare
from training.dataset.manifest import ReadRange, build_manifest
from training.dataset.prepared import PreparedData
from training.dataset.ranges import find_ranges, trim
from training.dataset.segments import SegmentStore
from training.spec import Model, Training

Progress = Callable[[str], None]
"""Is told what happens, in one line for people."""


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


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from, and the manifest that says where it came from."""

    prepared: PreparedData
    manifest: dict[str, Any]


def read_training_data(job: Wanted, progress: Progress = lambda _: None) -> TrainingData:
    """Return the examples that ``job`` may learn from, and the manifest; raises as run_training."""
    progress("finding the ranges in the log")
    topics, cutoff_ms = job.topics, job.cutoff_ms
    ranges = find_ranges(job.bootstrap, topics, job.events.partitions, job.since_ms)
    decoder = FeatureDecoder(topics.features, job.definition, job.events, job.labels)
    features, feature_rows = trim(ranges[0], _read(job, decoder, ranges[0], progress), cutoff_ms)
    label_decoder = LabelDecoder(topics.labels, job.labels, job.model.task)
    label_rows = _read(job, label_decoder, ranges[1], progress)
    labels, label_rows = trim(ranges[1], label_rows, cutoff_ms + 1)
    joined = join(
        feature_rows,
        label_rows,
        since_ms=job.since_ms,
        cutoff_ms=cutoff_ms,
        label_cutoff_ms=cutoff_ms,
    )
    if joined.counts["invalid_labels"]:
        progress(f"{joined.counts['invalid_labels']:,} labels can't be used and are left out")
    refuse_too_few(joined, job.training.minimum_examples)
    prepared = prepare(joined, job.training.validation)
    refuse_single_class(prepared)
    manifest = build_manifest(
        pipeline=topics.name,
        definition_version=job.definition.version,
        definition_hash=job.definition.hash(job.events, job.labels),
        features=features,
        labels=labels,
        since_ms=job.since_ms,
        cutoff_ms=cutoff_ms,
        label_cutoff_ms=cutoff_ms,
        ranks=job.ranks,
        model=job.model,
        training=job.training,
        counts={
            **joined.counts,
            "train": len(prepared.train),
            "validation": len(prepared.validation),
        },
        data_sha256=digest(joined),
    )
    return TrainingData(prepared, manifest)


def refuse_too_few(joined: Joined, minimum: int) -> None:
    """Raise TrainingError where fewer than ``minimum`` examples are labelled."""
    counts = joined.counts
    if counts["examples"] < minimum:
        raise TrainingError(
            f"{counts['examples']:,} labelled examples, but minimum_examples is {minimum:,}: "
            f"{counts['events_in_window']:,} events and {counts['known_labels']:,} usable labels "
            "lie in the window and were known at the cut-off; train later, on a longer window, or "
            "lower Training.minimum_examples"
        )


def refuse_single_class(prepared: PreparedData) -> None:
    """Raise TrainingError where a slice has one class only."""
    for name, examples in (("training", prepared.train), ("validation", prepared.validation)):
        if len(np.unique(examples.targets)) < 2:
            raise TrainingError(
                f"all {len(examples):,} examples of the {name} slice have the label "
                f"{examples.targets[0]:.0f}: nothing can be learnt or judged from one class; train "
                "later, on a longer window, or check the target expression of the label stream"
            )


def _read(
    job: Wanted, decoder: LogDecoder, wanted: ReadRange, progress: Progress
) -> Any:  # a pyarrow table, which has no types
    total = sum(end - first for first, end in wanted.offsets.values())
    progress(f"reading {total:,} records of {wanted.topic}")
    return SegmentStore(job.bootstrap, job.home, decoder).read(wanted.offsets)
