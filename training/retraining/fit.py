"""From examples to a calibrated model: encode, train in ranks, calibrate, score. No torch here."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import TrainingError
from training.calibration import Calibration, begin_calibration
from training.correction import shifts
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
from training.networks.tasks import Task
from training.onnx_export import CHECKED_ROWS, Exported, Trial, export
from training.package import save_package
from training.reference import Reference
from training.retraining.answered_rows import rows_for
from training.retraining.judging import calibrated, figures
from training.retraining.warm import Initial
from training.spec import Model, Training
from training.standard import Standard, stored_targets
from training.validation_scores import calibration_sums, score_dispersions, validation_scores

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Fitted:
    """A trained model in memory; ``metrics`` are of the calibrated model on the validation slice.

    ``history`` has one mapping per epoch: epoch, steps, train_loss, validation_loss. ``outputs``
    (n, O) are the network's own on the validation slice, before calibration. ``exported`` is the
    network for ONNX Runtime, tried on rows of that slice.
    """

    weights: dict[str, NDArray[np.float32]]
    shape: Shape
    task: Task
    encoding: Encoding
    calibration: Calibration
    reference: Reference
    metrics: dict[str, float]
    history: list[dict[str, float]]
    run: dict[str, Any]
    outputs: NDArray[np.float64]
    exported: Exported

    def save(self, folder: Path, manifest: Mapping[str, Any]) -> str:
        """Write the package (see :mod:`training.package`) and return its SHA-256.

        How the ranks ran goes into the manifest as ``run``, beside what ``manifest`` says.
        """
        return save_package(
            folder,
            weights=self.weights,
            shape=self.shape,
            task=self.task,
            encoding=self.encoding,
            calibration=self.calibration,
            reference=self.reference,
            metrics=self.metrics,
            manifest={**manifest, "run": self.run},
            exported=self.exported,
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
    standard = (
        Standard.of(model.task, prepared.train.targets) if initial is None else initial.standard
    )
    written = write_slices(
        folder, prepared, encoding, model, training.seed,
        lambda targets: stored_targets(model.task, targets, standard),
    )  # fmt: skip
    undone = shifts(model.task, written.factors, model.keep_negatives)
    parameters = {**_parameters(shape, model, training, undone), "arrays": written.digests}
    if initial is not None:
        parameters["initial"] = initial.sha256
    write_job(folder, {}, parameters)
    if initial is not None:
        save_arrays(folder / "initial.npz", initial.weights)
    result = read_result(folder)
    if result is None:
        progress(f"starting {ranks} ranks")
        launch(folder, ranks, lambda line: progress(_epoch_text(line, model.epochs)), check)
        result = read_result(folder)
    if result is None:
        raise TrainingError(f"the ranks ended without a result in {folder}; see ranks.log there")
    begun = begin_calibration(model.task, undone, standard)
    return _fitted(prepared, encoding, shape, model.task, begun, result)


def discard(folder: Path) -> None:
    """Remove the working folder of a finished fit."""
    shutil.rmtree(folder, ignore_errors=True)


def _parameters(
    shape: Shape, model: Model, training: Training, undone: tuple[float, ...]
) -> dict[str, Any]:
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
            task=model.task,
            shifts=undone,
            schedule=model.schedule,
            ema=model.ema,
            compile=model.compile,
            recompute=model.recompute,
            parallel=model.parallel,
        )
    )


def _fitted(
    prepared: PreparedData,
    encoding: Encoding,
    shape: Shape,
    task: Task,
    begun: Calibration,
    result: RankResult,
) -> Fitted:
    outputs, targets = result.validation_outputs, prepared.validation.targets
    calibration = calibrated(begun, outputs, targets)
    answers = calibration.answers(outputs)
    metrics = {
        **figures(task, answers, targets, prepared.train.targets),
        "n_train": float(len(prepared.train)),
        "n_validation": float(len(prepared.validation)),
    }
    reference = Reference.from_columns(
        [prepared.train, prepared.validation],
        prepared.numeric_names,
        prepared.category_names,
        [prepared.train.event_times_ms, prepared.validation.event_times_ms],
        {
            name: [prepared.train.groups[i], prepared.validation.groups[i]]
            for i, name in enumerate(prepared.group_names)
        },
    ).with_scores(
        validation_scores(task, answers),
        calibration_sums(task, answers, targets),
        score_dispersions(task, answers, prepared.validation.event_times_ms),
    )
    run = {
        "ranks": result.ranks,
        "device": result.device,
        "precision": result.precision,
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
    }
    exported = export(shape, result.weights, encoding, _trial(prepared, encoding, shape, result))
    return Fitted(
        result.weights, shape, task, encoding, calibration, reference, metrics, result.history,
        run, outputs, exported,
    )  # fmt: skip


def _trial(prepared: PreparedData, encoding: Encoding, shape: Shape, result: RankResult) -> Trial:
    """Return evenly spaced rows of the validation slice, with what the ranks' torch gave them.

    What they computed in fewer bits is no measure: then torch has to answer again.
    """
    slice_ = prepared.validation
    chosen = np.arange(0, len(slice_), -(-len(slice_) // CHECKED_ROWS))
    rows = rows_for(encoding, shape.last, prepared, slice_.some(chosen))
    exact = result.precision == "float32" and result.device == "cpu"
    return Trial(rows, result.validation_outputs[chosen] if exact else None)


def _epoch_text(line: dict[str, float], epochs: int) -> str:
    return (
        f"epoch {line['epoch'] + 1:.0f} of at most {epochs}: training loss "
        f"{line['train_loss']:.4f}, validation loss {line['validation_loss']:.4f}"
    )
