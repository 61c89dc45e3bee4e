"""A training run from the log to a model package, as one function of (log, declarations, cut-off).

Steps: (1) find the offset ranges, (2) read them as columns, (3) join them
point in time, (4) split by time, (5) fit, (6) save the package under its manifest's id.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.definition import Definition
from streams.durations import seconds
from streams.errors import TrainingError
from streams.stream import EventStream, LabelStream
from streams.topics import Topics
from training.dataset.columns import FeatureDecoder, LabelDecoder, LogDecoder
from training.dataset.join import Joined, digest, join, prepare
from training.dataset.manifest import ReadRange, build_manifest, manifest_id
from training.dataset.prepared import PreparedData
from training.dataset.ranges import find_ranges, trim
from training.dataset.segments import SegmentStore
from training.loop.launch import Check, Launcher, go_on, run_ranks
from training.retraining.fit import discard, fit
from training.spec import Model, Training

Progress = Callable[[str], None]
"""Is told what happens, in one line for people."""


@dataclass(frozen=True)
class TrainingJob:
    """What is to be trained, on what, and where.

    ``cutoff_ms`` (milliseconds since the epoch): events before it and labels known by then count.
    ``home`` is the pipeline's folder of state. ``command_id`` is what asked for the run.
    """

    bootstrap: str
    topics: Topics
    definition: Definition
    events: EventStream
    labels: LabelStream
    model: Model
    training: Training
    cutoff_ms: int
    home: Path
    command_id: str
    ranks: int

    @property
    def since_ms(self) -> int | None:
        """From which event time on events count, or None for all."""
        window = self.training.window
        return None if window is None else self.cutoff_ms - seconds(window) * 1000


@dataclass(frozen=True)
class TrainedModel:
    """A model package on disk; ``metrics`` are of the validation slice, ``history`` per epoch."""

    package: Path
    sha256: str
    manifest: dict[str, Any]
    metrics: dict[str, float]
    history: list[dict[str, float]]

    @property
    def definition(self) -> int:
        """The version of the features that the model was trained on."""
        return int(self.manifest["definition"]["version"])


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from, and the manifest that says where it came from."""

    prepared: PreparedData
    manifest: dict[str, Any]


def run_training(
    job: TrainingJob,
    progress: Progress = lambda _: None,
    check: Check = go_on,
    launch: Launcher = run_ranks,
) -> TrainedModel:
    """Train a model and return its package.

    An interrupted run of the same input is gone on with, and gives the same model. ``check`` and
    ``launch`` are as for :func:`training.retraining.fit.fit`.

    Raises:
        TrainingError: there are too few examples, a single class, or the fit fails.
        BrokerError: Kafka fails.
        StateError: the features topic holds foreign records.
    """
    data = read_training_data(job, progress)
    counts = data.manifest["counts"]
    progress(f"training on {counts['examples']:,} examples with {job.ranks} ranks")
    check()
    return _fit_and_save(job, data, progress, check, launch)


def read_training_data(job: TrainingJob, progress: Progress = lambda _: None) -> TrainingData:
    """Return the examples that ``job`` may learn from, and the manifest; raises as run_training."""
    progress("finding the ranges in the log")
    topics, cutoff_ms = job.topics, job.cutoff_ms
    ranges = find_ranges(job.bootstrap, topics, job.events.partitions, job.since_ms)
    decoder = FeatureDecoder(topics.features, job.definition, job.events, job.labels)
    features, feature_rows = trim(ranges[0], _read(job, decoder, ranges[0], progress), cutoff_ms)
    label_rows = _read(job, LabelDecoder(topics.labels, job.labels), ranges[1], progress)
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


def _fit_and_save(
    job: TrainingJob, data: TrainingData, progress: Progress, check: Check, launch: Launcher
) -> TrainedModel:
    identity = manifest_id(data.manifest)
    folder = job.home / "training" / identity
    fitted = fit(data.prepared, job.model, job.training, folder, job.ranks, progress, check, launch)
    staged = job.home / "models" / f".staged-{identity}"
    sha256 = fitted.save(staged, data.manifest)
    package = _put_in_place(staged, job.home / "models" / identity, sha256)
    discard(folder)
    progress(f"saved the model in {package}")
    return TrainedModel(package.resolve(), sha256, data.manifest, fitted.metrics, fitted.history)


def _put_in_place(staged: Path, package: Path, sha256: str) -> Path:
    """Move a package to its place; the same one, which somebody may be loading, is left alone."""
    there = package / "manifest.json"
    if there.is_file() and hashlib.sha256(there.read_bytes()).hexdigest() == sha256:
        shutil.rmtree(staged)
        return package
    shutil.rmtree(package, ignore_errors=True)
    return staged.replace(package)


def _read(
    job: TrainingJob, decoder: LogDecoder, wanted: ReadRange, progress: Progress
) -> Any:  # a pyarrow table, which has no types
    total = sum(end - first for first, end in wanted.offsets.values())
    progress(f"reading {total:,} records of {wanted.topic}")
    return SegmentStore(job.bootstrap, job.home, decoder).read(wanted.offsets)
