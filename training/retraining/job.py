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

from features.definition import Definition
from streams.durations import seconds
from streams.stream import EventStream, LabelStream
from streams.topics import Topics
from training.dataset.manifest import manifest_id
from training.dataset.reading import TrainingData, read_training_data
from training.loop.launch import Check, Launcher, go_on, run_ranks
from training.retraining.fit import discard, fit
from training.spec import Model, Training

__all__ = [
    "TrainedModel", "TrainingData", "TrainingJob", "read_training_data", "run_training"
]  # fmt: skip

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
