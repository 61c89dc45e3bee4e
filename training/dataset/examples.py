"""A slice of the data as a rank reads it: memory-mapped arrays of the run folder. numpy only.

Every slice has targets, the training slice weights too (see
:mod:`training.loop.run_folder`); what the network is given is one of the kinds of
:func:`open_inputs`, told by the files that lie there. Nothing is loaded but the rows of a batch.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streams.errors import TrainingError
from training.dataset.draws import uniform
from training.dataset.histories import HistoryInputs
from training.loop.run_folder import Slice, array_path

UNKNOWN_SHARE = 0.01  # of the codes; trains the vector that stands for unknown categories
_HIDING = 1  # what draws are for


@dataclass(frozen=True, slots=True)
class HostBatch:
    """n examples in memory.

    ``inputs`` are the network's arguments, each (n, ...): numeric float32, codes int64, and for
    histories lengths int64. ``targets`` (n,): float32, or int64 class numbers. ``weights`` (n,)
    float32.
    """

    inputs: tuple[NDArray[Any], ...]
    targets: NDArray[Any]
    weights: NDArray[np.float32]


class Inputs(Protocol):
    """What a network is given, per example."""

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def take(self, rows: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """Return the network's arguments for the examples ``rows``, each (len(rows), ...)."""
        ...


@dataclass(frozen=True, slots=True)
class EventInputs:
    """The event alone: ``numeric`` (n, W) float32, ``codes`` (n, C) of a whole-number type."""

    numeric: NDArray[np.float32]
    codes: NDArray[Any]

    @classmethod
    def open(cls, folder: Path, part: Slice) -> "EventInputs":
        """Map the files of a slice."""
        return cls(*(mapped(folder, part, name) for name in ("numeric", "codes")))

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.numeric)

    def take(self, rows: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """Return numeric (len(rows), W) float32 and codes (len(rows), C) int64."""
        numeric = np.take(self.numeric, rows, axis=0)  # twice as quick as indexing
        return numeric, self.codes[rows].astype(np.int64, copy=False)


@dataclass(frozen=True, slots=True)
class SliceArrays:
    """One slice of the data; ``weights`` None means that all examples count 1."""

    inputs: Inputs
    targets: NDArray[Any]
    weights: NDArray[np.float32] | None

    @classmethod
    def open(cls, folder: Path, part: Slice) -> "SliceArrays":
        """Map the files of a slice; raises TrainingError where they do not fit together."""
        inputs, targets = open_inputs(folder, part), mapped(folder, part, "targets")
        weights = mapped(folder, part, "weights") if part == "train" else None
        if len(inputs) != len(targets) or (weights is not None and len(weights) != len(targets)):
            raise TrainingError(
                f"the arrays of the {part} slice in {folder} do not fit together: "
                f"{len(inputs):,} inputs, {len(targets):,} targets; remove the folder and train "
                "again"
            )
        return cls(inputs, targets, weights)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.targets)

    def batch(self, rows: NDArray[np.int64]) -> HostBatch:
        """Return the examples ``rows``, in that order, copied into memory."""
        weights = self.weights
        taken = np.ones(len(rows), np.float32) if weights is None else weights[rows]
        return HostBatch(self.inputs.take(rows), self.targets[rows], taken)


def open_inputs(folder: Path, part: Slice) -> Inputs:
    """Return the inputs of a slice, of the kind whose files lie in ``folder``."""
    if not array_path(folder, part, "rows").exists():
        return EventInputs.open(folder, part)
    numeric, codes, last = (
        _mapped(folder / f"events_{name}.npy") for name in ("numeric", "codes", "last")
    )
    rows, lengths = (mapped(folder, part, name) for name in ("rows", "lengths"))
    return HistoryInputs(numeric, codes, rows, lengths, int(last[0]))


def mapped(folder: Path, part: Slice, name: str) -> NDArray[Any]:
    """Return a memory-mapped array of a slice."""
    return _mapped(array_path(folder, part, name))


def _mapped(path: Path) -> NDArray[Any]:
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} is not an array of a training: {error}") from error
    array: NDArray[Any] = stored.view(np.ndarray)  # a memmap is slower to index
    return array


def with_unknowns(
    codes: NDArray[np.int64], rows: NDArray[np.int64], seed: int, epoch: int
) -> NDArray[np.int64]:
    """Return codes (n, ..., C) of which a small share, chosen anew each epoch, became 0 (unknown).

    Which ones is a function of (seed, epoch, row number), so that a batch can be made by itself.
    """
    places = np.arange(math.prod(codes.shape[1:])).reshape(codes.shape[1:])
    numbers = rows.reshape(-1, *[1] * (codes.ndim - 1))
    hidden = uniform((seed, epoch, _HIDING), numbers, places) < UNKNOWN_SHARE
    return np.where(hidden, 0, codes)
