"""Runs of some steps under a strategy, the same for one process and for many; torch alone."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.networks.build import build
from training.networks.declared import Network, Tabular
from training.networks.shape import Shape
from training.parallel.declared import Parallel
from training.parallel.parallelize import parallelize
from training.parallel.place import Place
from training.parallel.strategy import Batch, Strategy

ROWS = 24  # of a global batch
STEPS = 50
SEED = 7
CLIP = 0.3  # less than the norms met, so that it acts in nearly every step


@dataclass(frozen=True)
class Case:
    """A run: what network on which mesh, and how its batches are cut."""

    network: Network = field(default_factory=lambda: Tabular((16, 8)))
    parallel: Parallel = field(default_factory=Parallel)
    ranks: int = 1
    pieces: int = 1
    recompute: bool = False
    compile: bool = False
    steps: int = STEPS
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Course:
    """What a run did, as one rank saw it.

    ``losses`` are weighted means over the global batch; ``outputs`` are those of the state that was
    taken, lost and put back; ``silenced`` those of a state of zeros.
    """

    losses: list[float]
    norms: list[float]
    state: dict[str, Tensor]
    outputs: Tensor
    silenced: Tensor


def shape_of(network: Network) -> Shape:
    return Shape(5, (7, 4), network, outputs=2)


def examples(shape: Shape, step: int, rows: int = ROWS) -> Batch:
    """Return a global batch whose target can be learnt; its weights are uneven."""
    rng = np.random.default_rng([SEED, step])
    last = shape.last
    size: tuple[int, ...] = (rows, last) if last else (rows,)
    numeric = rng.standard_normal((*size, shape.numeric_width)).astype(np.float32)
    codes = np.stack([rng.integers(0, count, size) for count in shape.code_counts], -1)
    newest = numeric[:, -1] if last else numeric
    targets = torch.from_numpy(newest[:, 0] + newest[:, 1] * newest[:, 2])
    weights = torch.from_numpy(rng.uniform(0.2, 2.0, rows).astype(np.float32))
    inputs = (torch.from_numpy(numeric), torch.from_numpy(codes))
    if not last:
        return Batch(inputs, targets, weights)
    lengths = rng.integers(1, last + 1, rows)
    nothing = np.arange(last) < last - lengths[:, None]
    numeric[nothing] = 0
    codes[nothing] = 0
    return Batch((*inputs, torch.from_numpy(lengths)), targets, weights)


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of a normal distribution with mean and log variance, per example."""
    mean, log_variance = outputs[:, 0], outputs[:, 1]
    return 0.5 * (log_variance + (targets - mean) ** 2 * torch.exp(-log_variance))


def same(scaled: Tensor) -> Tensor:
    """Return a loss as it is: no loss scaling."""
    return scaled


def cut(batch: Batch, rows: Tensor) -> Batch:
    inputs = tuple(tensor[rows] for tensor in batch.inputs)
    return Batch(inputs, batch.targets[rows], batch.weights[rows])


def place_of(rank: int, ranks: int, dtype: torch.dtype = torch.float32) -> Place:
    return Place(rank, ranks, torch.device("cpu"), dtype)


def strategy_of(case: Case, place: Place) -> Strategy:
    torch.manual_seed(SEED)
    shape = shape_of(case.network)
    return parallelize(
        build(shape), shape, place, case.parallel, recompute=case.recompute, compile=case.compile
    )


def optimizer_of(strategy: Strategy) -> torch.optim.Optimizer:
    return torch.optim.AdamW(strategy.module.parameters(), lr=3e-3, weight_decay=1e-2)


def pieces_of(case: Case, strategy: Strategy, step: int) -> tuple[list[Batch], float]:
    """Return this share's pieces of a global batch, and 1 / the batch's weight."""
    batch = examples(shape_of(case.network), step)
    mine = torch.arange(strategy.share, ROWS, strategy.shares)
    pieces = [cut(batch, rows) for rows in torch.tensor_split(mine, case.pieces)]
    return pieces, 1 / float(batch.weights.sum())


def run(case: Case, rank: int = 0) -> Course:
    """Train with AdamW and return what happened; every rank of the case calls it."""
    place = place_of(rank, case.ranks, case.dtype)
    strategy = strategy_of(case, place)
    optimizer = optimizer_of(strategy)
    copies = case.ranks / strategy.shares  # ranks that tell of the same examples
    losses, norms = [], []
    for step in range(case.steps):
        pieces, factor = pieces_of(case, strategy, step)
        optimizer.zero_grad()
        value = float(strategy.backward(pieces, loss, factor, same))
        norms.append(float(strategy.clip(CLIP)))
        optimizer.step()
        losses.append(place.sum_over_ranks(value)[0] * factor / copies)
    state = strategy.whole_state()
    inputs = examples(shape_of(case.network), STEPS).inputs
    strategy.load_whole_state({name: torch.zeros_like(part) for name, part in state.items()})
    silenced = strategy.outputs(inputs)
    strategy.load_whole_state(state)
    return Course(losses, norms, state, strategy.outputs(inputs), silenced)


def save(course: Course, path: Path) -> None:
    arrays = {f"state/{name}": tensor.numpy() for name, tensor in course.state.items()}
    np.savez(
        path,
        losses=np.array(course.losses),
        norms=np.array(course.norms),
        outputs=course.outputs.numpy(),
        silenced=course.silenced.numpy(),
        **arrays,  # type: ignore[arg-type]
    )


def load(path: Path) -> Course:
    with np.load(path) as stored:
        state = {
            name.removeprefix("state/"): torch.from_numpy(stored[name])
            for name in stored.files
            if name.startswith("state/")
        }
        losses, norms = stored["losses"].tolist(), stored["norms"].tolist()
        outputs, silenced = (torch.from_numpy(stored[name]) for name in ("outputs", "silenced"))
        return Course(losses, norms, state, outputs, silenced)
