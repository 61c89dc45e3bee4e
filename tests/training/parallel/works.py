"""What the ranks of a test's world do besides training runs; each leaves a JSON file per rank."""

import json
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from streams.errors import DefinitionError
from tests.training.parallel.cases import (
    Case,
    loss,
    optimizer_of,
    pieces_of,
    place_of,
    same,
    shape_of,
    strategy_of,
)
from training.networks.build import build
from training.networks.declared import Custom, Experts, Network, Tabular, Transformer
from training.networks.shape import Shape
from training.parallel.declared import Parallel
from training.parallel.measuring import measured
from training.parallel.parallelize import parallelize
from training.parallel.scaling import MeshGradScaler
from training.parallel.shards import local

MEASURED = Transformer(last=4, width=16, layers=6, heads=4)
MICROBATCHES = 6


class Own(nn.Module):
    """A user's network, which tells nothing of its structure."""

    def __init__(self, shape: Shape, normalised: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(shape.numeric_width, 8)
        self.norm = nn.BatchNorm1d(8) if normalised else nn.Identity()
        self.last = nn.Linear(8, shape.outputs)

    def forward(self, numeric: Tensor, codes: Tensor) -> Tensor:  # noqa: ARG002
        outputs: Tensor = self.last(torch.tanh(self.norm(self.first(numeric))))
        return outputs


OWN = Custom("tests.training.parallel.works:Own")
NORMALISED = Custom("tests.training.parallel.works:Own", {"normalised": True})


def buffers(rank: int, folder: Path) -> None:
    """Let each rank's running means go their own way, and note what the whole state says."""
    found = {}
    for name, parallel in {"ddp": Parallel(), "fsdp": Parallel(shard=True)}.items():
        case = Case(NORMALISED, parallel, ranks=2)
        strategy = strategy_of(case, place_of(rank, 2))
        pieces, factor = pieces_of(case, strategy, 0)
        strategy.backward(pieces, loss, factor, same)
        mine = strategy.module.state_dict()["norm.running_mean"].tolist()
        found[name] = [mine, strategy.whole_state()["norm.running_mean"].tolist()]
    _note(found, folder / f"buffers-{rank}.json")


def refusals(rank: int, folder: Path) -> None:
    """Ask for what can't be, and note the errors."""
    asked: dict[str, tuple[Network, Parallel]] = {
        "own, tensor": (OWN, Parallel(tensor=2)),
        "own, pipeline": (OWN, Parallel(pipeline=2)),
        "own, expert": (OWN, Parallel(expert=2)),
        "heads": (Transformer(last=2, width=6, heads=3, layers=1), Parallel(tensor=2)),
        "widths": (Tabular((15, 8)), Parallel(tensor=2)),
        "one layer": (Tabular((16,), experts=Experts(4)), Parallel(tensor=2)),
        "experts": (Tabular((16, 8), experts=Experts(3)), Parallel(expert=2)),
        "ranks": (Tabular((16, 8)), Parallel(tensor=4)),
    }
    said = {}
    for name, (network, parallel) in asked.items():
        shape = shape_of(network)
        try:
            parallelize(build(shape), shape, place_of(rank, 2), parallel)
        except DefinitionError as error:
            said[name] = str(error)
    _note(said, folder / f"refusals-{rank}.json")


def overflow(rank: int, folder: Path) -> None:
    """Let the gradient overflow on rank 1 alone, once, and note what each rank's step did."""
    found = {}
    for name, parallel in {
        "fsdp": Parallel(shard=True),
        "tensor": Parallel(tensor=2),
        "pipeline": Parallel(pipeline=2),
    }.items():
        case = Case(Tabular((16, 8)), parallel, ranks=2)
        place = place_of(rank, 2)
        strategy = strategy_of(case, place)
        optimizer = optimizer_of(strategy)
        scaler = MeshGradScaler(place, enabled=True)
        moved, norms, scales = [], [], []
        for step in range(2):
            pieces, factor = pieces_of(case, strategy, step)
            before = strategy.whole_state()
            optimizer.zero_grad()
            strategy.backward(pieces, loss, factor, scaler.scale)
            if step == 0 and rank == 1:
                gradient = next(p.grad for p in strategy.module.parameters() if p.grad is not None)
                gradient.mul_(float("inf"))
            scaler.unscale_(optimizer)
            norms.append(float(strategy.clip(1.0)))
            scaler.step(optimizer)
            scaler.update()
            after = strategy.whole_state()
            moved.append(any(not torch.equal(before[k], after[k]) for k in after))
            scales.append(scaler.get_scale())
        found[name] = {"moved": moved, "norms": norms, "scales": scales}
    _note(found, folder / f"overflow-{rank}.json")


def repeated(rank: int, folder: Path) -> None:
    """Take the gradients of the same pieces again and again, with dropout, on 4 ranks."""
    network = Transformer(last=4, width=16, layers=2, heads=4, dropout=0.2)
    found = {}
    for name, parallel in {
        "ddp": Parallel(),
        "fsdp": Parallel(shard=True),
        "data x tensor": Parallel(tensor=2),
        "data x pipeline": Parallel(pipeline=2, microbatches=2),
    }.items():
        case = Case(network, parallel, ranks=4, pieces=2)
        strategy = strategy_of(case, place_of(rank, 4))
        gradients = []
        for _ in range(3):
            torch.manual_seed(strategy.share)
            pieces, factor = pieces_of(case, strategy, 0)
            for parameter in strategy.module.parameters():
                parameter.grad = None
            strategy.backward(pieces, loss, factor, same)
            parts = [local(p.grad) for p in strategy.module.parameters() if p.grad is not None]
            gradients.append(torch.cat([part.flatten() for part in parts]))
        found[name] = [torch.equal(each, gradients[0]) for each in gradients]
    _note(found, folder / f"repeated-{rank}.json")


def pipelines(rank: int, folder: Path) -> None:
    """Measure a step of both schedules."""
    found = {}
    for schedule in ("gpipe", "1f1b"):
        parallel = Parallel(pipeline=2, schedule=schedule, microbatches=MICROBATCHES)
        case = Case(MEASURED, parallel, ranks=2)
        strategy = strategy_of(case, place_of(rank, 2))
        pieces, factor = pieces_of(case, strategy, 0)
        strategy.backward(pieces, loss, factor, same)  # connects, and learns the shapes
        dist.barrier()
        with measured(strategy) as record:
            strategy.backward(pieces, loss, factor, same)
        strategy.backward(pieces, loss, factor, same)  # is not recorded
        found[schedule] = {
            "intervals": [
                (each.stage, each.microbatch, each.work, each.start_s, each.end_s)
                for each in record.intervals
            ],
            "in_flight": record.in_flight,
            "saved_bytes": record.saved_bytes,
        }
    _note(found, folder / f"pipelines-{rank}.json")


def _note(content: object, path: Path) -> None:
    path.write_text(json.dumps(content))
