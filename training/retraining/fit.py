"""From examples to a calibrated model: encode, train in ranks, calibrate, score. No torch here."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import TrainingError
from training.calibration import Calibration, fit_platt
from training.dataset.encoded import write_slices
from training.dataset.encoding import Encoding
from training.dataset.prepared import PreparedData
from training.loop.launch import Check, Launcher, go_on, run_ranks
from training.loop.run_folder import (
    RankJob,
    RankResult,
    job_parameters,
    read_result,
    save_arrays,
    write_job,
)
from training.networks.shape import Shape
from training.package import save_package
from training.reference import Reference
from training.retraining.warm import Initial
from training.scores import accuracy, base_rate_log_loss, brier, log_loss
from training.spec import Model, Training

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Fitted:
    """A trained model in memory; ``metrics`` are of the calibrated model on the validation slice.

    ``history`` has one mapping per epoch: epoch, steps, train_loss, validation_loss. ``outputs``
    are the network's own on the validation slice, before calibration.
    """

    weights: dict[str, NDArray[np.float32]]
    shape: Shape
    encoding: Encoding
    calibration: Calibration
    reference: Reference
    metrics: dict[str, float]
    history: list[dict[str, float]]
    run: dict[str, Any]
    outputs: NDArray[np.float64]

    def save(self, folder: Path, manifest: Mapping[str, Any]) -> str:
        """Write the package (see :mod:`training.package`) and return its SHA-256.

        How the ranks ran goes into the manifest as ``run``, beside what ``manifest`` says.
        """
        return save_package(
            folder,
            weights=self.weights,
            shape=self.shape,
            encoding=self.encoding,
            calibration=self.calibration,
            reference=self.reference,
            metrics=self.metrics,
            manifest={**manifest, "run": self.run},
        )


def fit(
    prepared: PreparedData,
    model: Model,
    training: Training,
    folder: Path,
    ranks: int,
    progress: Progress = lambda _: None,
    check: Check = go_on,
    launch: Launcher = run_ranks,
    initial: Initial | None = None,
) -> Fitted:
    """Train on ``prepared`` with ``ranks`` processes, working in ``folder``.

    A folder in which the same job was interrupted resumes it; the result is the same. The folder
    can be removed afterwards (:func:`discard`). ``check`` is called all the time while the ranks
    run; what it or ``progress`` raises ends them. ``launch`` starts the ranks: whoever trains often
    gives a :class:`training.loop.launch.WarmRanks`. ``initial`` is what a warm start begins with.

    Raises:
        TrainingError: a target is none of the task's, the ranks failed, or the training diverged.
    """
    if ranks < 1:
        raise TrainingError(f"{ranks} training ranks: at least 1, see KAPPA_TRAINING_RANKS")
    prepared.check_targets(model.task)
    encoding = (
        Encoding.fit(prepared.numeric_names, prepared.category_names, prepared.train)
        if initial is None
        else initial.encoding
    )
    shape = Shape(encoding.numeric_width, encoding.code_counts, model.network, model.task.outputs)
    parameters = _parameters(shape, model, training)
    if initial is not None:
        parameters["initial"] = initial.sha256
    written = write_slices(folder, prepared, encoding, model, training.seed)
    write_job(folder, {}, {**parameters, "arrays": written.digests})
    if initial is not None:
        save_arrays(folder / "initial.npz", initial.weights)
    result = read_result(folder)
    if result is None:
        progress(f"starting {ranks} ranks")
        launch(folder, ranks, lambda line: progress(_epoch_text(line, model.epochs)), check)
        result = read_result(folder)
    if result is None:
        raise TrainingError(f"the ranks ended without a result in {folder}; see ranks.log there")
    return _judged(prepared, encoding, shape, result)


def discard(folder: Path) -> None:
    """Remove the working folder of a finished fit."""
    shutil.rmtree(folder, ignore_errors=True)


def _parameters(shape: Shape, model: Model, training: Training) -> dict[str, Any]:
    return job_parameters(
        RankJob(
            digest="",
            shape=shape,
            epochs=model.epochs,
            patience=model.patience,
            batch=model.batch,
            accumulate=model.accumulate,
            learning_rate=model.learning_rate,
            weight_decay=model.weight_decay,
            seed=training.seed,
            clip=model.clip,
            precision=model.precision,
        )
    )


def _judged(prepared: PreparedData, encoding: Encoding, shape: Shape, result: RankResult) -> Fitted:
    targets = prepared.validation.targets
    if not np.isfinite(result.validation_logits).all():
        raise TrainingError(
            "training diverged: the network answers with values that are not numbers; lower "
            "learning_rate of the model"
        )
    calibration = fit_platt(result.validation_logits, targets)
    probabilities = calibration.probabilities(result.validation_logits)
    base_rate = float(prepared.train.targets.mean())
    metrics = {
        "log_loss": log_loss(probabilities, targets),
        "brier": brier(probabilities, targets),
        "accuracy": accuracy(probabilities, targets),
        "base_rate_log_loss": base_rate_log_loss(base_rate, targets),
        "n_train": float(len(prepared.train)),
        "n_validation": float(len(prepared.validation)),
    }
    reference = Reference.from_columns(
        [prepared.train, prepared.validation], prepared.numeric_names, prepared.category_names
    )
    run = {
        "ranks": result.ranks,
        "device": result.device,
        "precision": result.precision,
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
    }
    return Fitted(
        result.weights, shape, encoding, calibration, reference, metrics, result.history, run,
        result.validation_logits,
    )  # fmt: skip


def _epoch_text(line: dict[str, float], epochs: int) -> str:
    return (
        f"epoch {line['epoch'] + 1:.0f} of at most {epochs}: training loss "
        f"{line['train_loss']:.4f}, validation loss {line['validation_loss']:.4f}"
    )
