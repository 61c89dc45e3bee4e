"""The state of a run after a whole epoch, as plain arrays: written atomically, read by every rank.

Randomness needs no state here: shuffles, masks and dropout are functions of (seed, epoch, rank),
see :mod:`training.loop.rank`. The learning-rate schedule is a function of the number of steps.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.loop.run_folder import load_arrays, save_arrays

FILE = "checkpoint.npz"


@dataclass
class Progress:
    """Where a run stands: ``epoch`` is the *next* one to do, ``steps`` those done."""

    epoch: int = 0
    steps: int = 0
    best_epoch: int = -1
    best_loss: float = float("inf")
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


def save_checkpoint(
    folder: Path,
    digest: str,
    progress: Progress,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> None:
    """Write the state of a run; a crash at any point leaves the last whole checkpoint."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, tensor in network.state_dict().items():
        arrays[f"network/{name}"] = _numpy(tensor)
    for name, tensor in progress.best.items():
        arrays[f"best/{name}"] = _numpy(tensor)
    for index, state in optimizer.state_dict()["state"].items():
        for name, tensor in state.items():
            arrays[f"optimizer/{index}/{name}"] = _numpy(tensor)
    about = {
        "digest": digest,
        "epoch": progress.epoch,
        "steps": progress.steps,
        "best_epoch": progress.best_epoch,
        "best_loss": progress.best_loss,
        "history": progress.history,
        "scaler": scaler.state_dict(),
    }
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    save_arrays(folder / FILE, arrays)


def load_checkpoint(
    folder: Path,
    digest: str,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> Progress:
    """Put network, optimizer and scaler into the stored state, and return where the run stands.

    Without a checkpoint, or with one of another job, nothing changes and the run is at its start.
    """
    if not (folder / FILE).exists():
        return Progress()
    arrays = load_arrays(folder / FILE)
    about = json.loads(arrays.pop("about").tobytes())
    if about["digest"] != digest:
        return Progress()
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}, "optimizer": {}}
    for path, array in arrays.items():
        part, name = path.split("/", 1)
        parts[part][name] = torch.from_numpy(array)
    network.load_state_dict(parts["network"])
    state: dict[int, dict[str, Tensor]] = {}
    for path, tensor in parts["optimizer"].items():
        index, name = path.split("/", 1)
        state.setdefault(int(index), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    if about["scaler"]:
        scaler.load_state_dict(about["scaler"])
    return Progress(
        epoch=about["epoch"],
        steps=about["steps"],
        best_epoch=about["best_epoch"],
        best_loss=about["best_loss"],
        best=parts["best"],
        history=about["history"],
    )


def _numpy(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array
