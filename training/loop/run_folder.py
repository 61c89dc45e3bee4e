"""The folder through which a training run speaks with its ranks: plain arrays and JSON, no pickle.

::

    job.json                 the RankJob; names the data by their digest
    train_*.npy              numeric, codes, targets, weights of the training slice
    validation_*.npy         numeric, codes, targets of the validation slice
    checkpoint.npz           the state after the last whole epoch
    progress.jsonl           one line per epoch
    result.npz, result.json  the best parameters and validation logits; result.json comes last
    ranks.log                what the ranks wrote

numpy only.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streams.errors import TrainingError
from training.networks.shape import Shape
from training.spec import Precision

Slice = Literal["train", "validation"]


@dataclass(frozen=True)
class RankJob:
    """What every rank is told. ``batch`` is per rank; ``digest`` covers data and parameters.

    ``precision`` "auto" means bfloat16 where the GPU has it, float16 with loss scaling on other
    GPUs, float32 on CPUs. Training stops after ``patience`` epochs without a better validation
    loss. ``clip`` is the largest norm of the gradient.
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


@dataclass(frozen=True)
class RankResult:
    """What rank 0 hands back; ``history`` has one mapping per epoch."""

    weights: dict[str, NDArray[np.float32]]
    validation_logits: NDArray[np.float64]
    history: list[dict[str, float]]
    best_epoch: int
    ranks: int
    device: str
    precision: str


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
    for left in ("job.json", "result.json", "result.npz", "checkpoint.npz", "progress.jsonl"):
        (folder / left).unlink(missing_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    content = json.dumps({**parameters, "digest": digest}, indent=2)
    write_atomically(job_file, content.encode())
    return digest


def read_job(job_file: Path) -> RankJob:
    """Return the job; raises TrainingError where the file is none."""
    try:
        content = json.loads(job_file.read_bytes())
        values = {field.name: content[field.name] for field in fields(RankJob)}
        values["shape"] = Shape.from_json(values["shape"])
        return RankJob(**values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{job_file} is not a training job: {error!r}") from error


def job_parameters(job: RankJob) -> dict[str, Any]:
    """Return the parameters of ``job`` as JSON values, without its digest."""
    parameters = {field.name: getattr(job, field.name) for field in fields(RankJob)}
    del parameters["digest"]
    return {**parameters, "shape": job.shape.to_json()}


def write_result(folder: Path, result: RankResult) -> None:
    """Write what rank 0 found; result.json, written last, says that it is whole."""
    arrays: dict[str, NDArray[Any]] = {f"weights/{k}": v for k, v in result.weights.items()}
    arrays["validation_logits"] = result.validation_logits
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
    return RankResult(weights, arrays["validation_logits"], **about)


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
