"""The folder through which a training run speaks with its ranks: plain arrays and JSON, no pickle.

::

    job.json                 the RankJob; names the data by their digest
    train_*.npy              inputs, targets, weights of the training slice
    validation_*.npy         inputs and targets of the validation slice
    initial.npz              what a warm start begins with, where it is one
    checkpoints/             the last states of the run, see training.loop.checkpoint
    progress.jsonl           a line per epoch, and now and then one for a step
    result.npz, result.json  the best parameters and validation outputs; result.json comes last
    ranks.log                what the ranks wrote

numpy only.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streams.errors import TrainingError
from training.networks.shape import Shape
from training.networks.tasks import Binary, Task, task_from_json, task_to_json
from training.parallel.declared import Parallel
from training.spec import Precision, RateSchedule

Slice = Literal["train", "validation"]
Backend = Literal["auto", "nccl", "gloo", "mpi"]

CHECKPOINTS = "checkpoints"
PROGRESS = "progress.jsonl"
INITIAL = "initial.npz"
_OF_A_RUN = ("job.json", "result.json", "result.npz", PROGRESS, INITIAL)


@dataclass(frozen=True)
class RankJob:
    """What every rank is told.

    Args:
        digest: SHA-256 of data and parameters: a checkpoint of another job is not taken.
        shape: of the network.
        epochs: at most so many.
        patience: training stops after so many epochs without a better validation loss.
        batch: examples per share and micro-batch.
        accumulate: micro-batches per step.
        learning_rate: of AdamW, at the peak.
        weight_decay: of AdamW.
        seed: of everything random.
        clip: the largest norm of the gradient.
        precision: see :func:`training.loop.precision.compute_dtype`.
        task: whose loss is lowered.
        shifts: what is taken off the outputs before they are judged, one each, because weights
            and sampling put it on (:mod:`training.correction`); empty for nothing.
        schedule: of the learning rate.
        ema: decay per step of the average that is judged and kept, or None for the parameters.
        compile: compile the network.
        recompute: trade activations for work.
        parallel: the mesh of the ranks.
        global_batch: examples per step over all shares, whatever the number of ranks; None for
            batch × accumulate × shares. A run that resumes on other ranks keeps what it had.
        backend: of the ranks' messages; "auto" is NCCL on GPUs and Gloo on CPUs.
        checkpoint_steps: a checkpoint after each so many steps, besides those at the epochs' ends;
            None for one about every ``checkpoint_s`` seconds.
        checkpoint_s: see there; 0 for none within epochs.
        digests: let each rank write a digest of its state after every step (for tests).
    """

    digest: str
    shape: Shape
    epochs: int
    patience: int
    batch: int
    accumulate: int
    learning_rate: float
    weight_decay: float
    seed: int
    clip: float = 1.0
    precision: Precision = "auto"
    task: Task = field(default_factory=Binary)
    shifts: tuple[float, ...] = ()
    schedule: RateSchedule = "one_cycle"
    ema: float | None = None
    compile: bool = False
    recompute: bool = False
    parallel: Parallel = field(default_factory=Parallel)
    global_batch: int | None = None
    backend: Backend = "auto"
    checkpoint_steps: int | None = None
    checkpoint_s: float = 60.0
    digests: bool = False


@dataclass(frozen=True)
class RankResult:
    """What rank 0 hands back; ``history`` has one mapping per epoch.

    ``validation_outputs`` (n, O) are the best network's.
    """

    weights: dict[str, NDArray[np.float32]]
    validation_outputs: NDArray[np.float64]
    history: list[dict[str, float]]
    best_epoch: int
    ranks: int
    device: str
    precision: str

    @property
    def validation_logits(self) -> NDArray[np.float64]:
        """The first output of each validation example, (n,)."""
        first: NDArray[np.float64] = self.validation_outputs[:, 0]
        return first


def array_path(folder: Path, part: Slice, name: str) -> Path:
    """Return where an array of a slice lies."""
    return folder / f"{part}_{name}.npy"


def digest_of(arrays: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of arrays (names, types, shapes, bytes) and JSON parameters."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}:{array.dtype.str}:{array.shape}:".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_job(folder: Path, arrays: Mapping[str, NDArray[Any]], parameters: dict[str, Any]) -> str:
    """Write the arrays ("train_numeric", ...) and job.json; return the digest.

    A folder that holds the same job keeps its checkpoint and result; of another job, nothing.
    """
    digest = digest_of(arrays, parameters)
    folder.mkdir(parents=True, exist_ok=True)
    job_file = folder / "job.json"
    if job_file.exists() and _stored_digest(job_file) == digest:
        return digest
    for left in _OF_A_RUN:
        (folder / left).unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    content = json.dumps({**parameters, "digest": digest}, indent=2)
    write_atomically(job_file, content.encode())
    return digest


def read_job(job_file: Path) -> RankJob:
    """Return the job; raises TrainingError where the file is none."""
    try:
        content = json.loads(job_file.read_bytes())
        values = {one.name: content[one.name] for one in fields(RankJob) if one.name in content}
        values["shape"] = Shape.from_json(values["shape"])
        values["task"] = task_from_json(values["task"])
        values["parallel"] = Parallel(**values["parallel"])
        values["shifts"] = tuple(values.get("shifts", ()))
        return RankJob(**values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{job_file} is not a training job: {error!r}") from error


def job_parameters(job: RankJob) -> dict[str, Any]:
    """Return the parameters of ``job`` as JSON values, without its digest."""
    parameters = {field.name: getattr(job, field.name) for field in fields(RankJob)}
    del parameters["digest"]
    return {
        **parameters,
        "shape": job.shape.to_json(),
        "task": task_to_json(job.task),
        "parallel": asdict(job.parallel),
    }


def write_result(folder: Path, result: RankResult) -> None:
    """Write what rank 0 found; result.json, written last, says that it is whole."""
    arrays: dict[str, NDArray[Any]] = {f"weights/{k}": v for k, v in result.weights.items()}
    arrays["validation_outputs"] = result.validation_outputs
    save_arrays(folder / "result.npz", arrays)
    about = {
        "history": result.history,
        "best_epoch": result.best_epoch,
        "ranks": result.ranks,
        "device": result.device,
        "precision": result.precision,
    }
    write_atomically(folder / "result.json", json.dumps(about).encode())


def read_result(folder: Path) -> RankResult | None:
    """Return the result of a finished run, or None where there is none yet."""
    try:
        about = json.loads((folder / "result.json").read_bytes())
    except FileNotFoundError:
        return None
    arrays = load_arrays(folder / "result.npz")
    weights = {k.removeprefix("weights/"): v for k, v in arrays.items() if k.startswith("weights/")}
    return RankResult(weights, arrays["validation_outputs"], **about)


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an uncompressed .npz so that readers see the old file or the whole new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a .npz; object arrays are refused."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _stored_digest(job_file: Path) -> str | None:
    try:
        return str(json.loads(job_file.read_bytes())["digest"])
    except (ValueError, KeyError, TypeError):
        return None
