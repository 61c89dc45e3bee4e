"""A training run from the log to a model package, as one function of (log, declarations, cut-off,
parent).

Steps: (1) read what may be learnt from (:mod:`training.dataset.reading`), (2) for a warm start take
the live model's parameters, (3) fit, (4) compare with the live model, (5) save the package under
its manifest's id, and the model card beside it.
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
from streams.errors import TrainingError
from streams.stream import EventStream, LabelStream
from streams.topics import Topics
from training.dataset.manifest import manifest_id
from training.dataset.prepared import PreparedData
from training.dataset.reading import Ranges, TrainingData, read_training_data
from training.loop.launch import Check, Launcher, go_on, run_ranks
from training.retraining.comparison import Comparison
from training.retraining.contest import contest
from training.retraining.fit import Fitted, discard, fit
from training.retraining.predecessor import Predecessor
from training.retraining.warm import Initial, UnfitError, initial_of
from training.spec import Model, Training
from training.tracking.card import Subject, make_card, write_card

__all__ = [
    "TrainedModel", "TrainingData", "TrainingJob", "read_training_data", "run_training"
]  # fmt: skip

Progress = Callable[[str], None]
"""Is told what happens, in one line for people."""


@dataclass(frozen=True)
class TrainingJob:
    """What is to be trained, on what, and where.

    ``cutoff_ms`` (milliseconds since the epoch): events before it and labels known by then count.
    ``home`` is the pipeline's folder of state. ``command_id`` is what asked for the run. ``live``
    is the model that answers now: what the new one is compared with, and what a warm start goes on
    from; None for none, and then every start is a full one. ``ranges`` are exactly what is read, of
    a model that is made again; None for what the cut-off allows.
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
    live: Predecessor | None = None
    ranges: Ranges | None = None

    @property
    def since_ms(self) -> int | None:
        """From which event time on events count, or None for all."""
        window = self.training.window
        return None if window is None else self.cutoff_ms - seconds(window) * 1000


@dataclass(frozen=True)
class TrainedModel:
    """A model package on disk; ``metrics`` are of the validation slice, ``history`` per epoch.

    ``comparison`` is what it showed against the model that was live.
    """

    package: Path
    sha256: str
    manifest: dict[str, Any]
    metrics: dict[str, float]
    history: list[dict[str, float]]
    comparison: Comparison | None = None

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
    data = read_training_data(job, progress, check)
    initial = _initial(job, data, progress)
    parent = job.live.to_manifest() if job.live is not None and initial is not None else None
    manifest = {**data.manifest, "parent": parent}
    identity = manifest_id(manifest)
    folder = job.home / "training" / identity
    progress(f"training on {manifest['counts']['examples']:,} examples with {job.ranks} ranks")
    try:
        fitted = fit(
            data.prepared, job.model, job.training, folder, job.ranks,
            progress, check, launch, initial,
        )  # fmt: skip
    except TrainingError:  # it would fail again; what was stopped or killed goes on from there
        discard(folder)
        raise
    comparison = contest(job.live, data.prepared, fitted)
    progress(str(comparison))
    package, sha256 = _save(job.home / "models", identity, fitted, manifest)
    discard(folder)
    progress(f"saved the model in {package}")
    _card_beside(package, identity, manifest, data.prepared, fitted, comparison, progress)
    return TrainedModel(
        package.resolve(), sha256, manifest, fitted.metrics, fitted.history, comparison
    )


def _initial(job: TrainingJob, data: TrainingData, progress: Progress) -> Initial | None:
    """Return what a warm start begins with; None, with the reason told, for a full one."""
    if job.training.start == "full":
        return None
    if job.live is None:
        progress("a full start: no model is live to go on from")
        return None
    names = data.prepared
    try:
        initial = initial_of(job.live, job.model, names.numeric_names, names.category_names)
    except UnfitError as error:
        progress(f"a full start: {error}")
        return None
    progress(f"a warm start from model {job.live.version}")
    return initial


def _save(
    models: Path, identity: str, fitted: Fitted, manifest: dict[str, Any]
) -> tuple[Path, str]:
    """Write the package and return where it lies, and its SHA-256."""
    staged = models / f".staged-{identity}"
    sha256 = fitted.save(staged, manifest)
    return _put_in_place(staged, models / identity, sha256), sha256


def _card_beside(
    package: Path,
    identity: str,
    manifest: dict[str, Any],
    prepared: PreparedData,
    fitted: Fitted,
    comparison: Comparison,
    progress: Progress,
) -> None:
    """Write the model card; no defect in what only people look at may cost the model."""
    subject = Subject(
        identity, manifest, fitted.task, fitted.encoding, fitted.calibration, fitted.outputs,
        fitted.metrics, comparison.to_json(),
    )  # fmt: skip
    try:
        write_card(package / "card", make_card(subject, prepared))
    except Exception as error:
        progress(f"the model card could not be made: {error!r}")


def _put_in_place(staged: Path, package: Path, sha256: str) -> Path:
    """Move a package to its place; the same one, which somebody may be loading, is left alone."""
    there = package / "manifest.json"
    if there.is_file() and hashlib.sha256(there.read_bytes()).hexdigest() == sha256:
        shutil.rmtree(staged)
        return package
    shutil.rmtree(package, ignore_errors=True)
    return staged.replace(package)
