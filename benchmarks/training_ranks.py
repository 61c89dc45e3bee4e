"""The ranks of benchmarks/training.py: times blocks of steps, variant after variant.

    torchrun --nproc-per-node 2 -m benchmarks.training_ranks FOLDER ROUNDS

FOLDER holds a job of :mod:`training.loop`, of accumulation 1. Rank 0 writes FOLDER/blocks.json:
seconds per step of every variant in each round, all variants of a round one after another.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.perceptron import Perceptron
from training.loop.backends import joined
from training.loop.feeding import Feed, Plan
from training.loop.run import Run
from training.loop.run_folder import RankJob, read_job
from training.loop.stepping import Stepper
from training.parallel.place import Place

STEPS = 4  # of a block
ACCUMULATE = 4
WARM_UP_ROUNDS = 2

Steps = Callable[[int], None]


class Bare:
    """A training loop as one writes it by hand: one batch in memory, forward, backward, step."""

    def __init__(self, job: RankJob, optimizer: str, *, ddp: bool, accumulate: int = 1) -> None:
        torch.manual_seed(job.seed)
        network = Perceptron(job.shape)
        self._ddp = DistributedDataParallel(network) if ddp else None
        self._network: nn.Module = self._ddp or network
        made = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
        self._optimizer = made(network.parameters(), lr=1e-4)
        self._accumulate = accumulate
        self._inputs = torch.randn(job.batch, job.shape.numeric_width)
        self._codes = torch.zeros(job.batch, 0, dtype=torch.int64)
        self._targets = (self._inputs[:, 0] > 0).float()

    def __call__(self, steps: int) -> None:
        """Take some steps."""
        for _ in range(steps):
            self._optimizer.zero_grad()
            for number in range(self._accumulate):
                with self._alone(last=number == self._accumulate - 1):
                    self._loss().backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()

    def _loss(self) -> Tensor:
        outputs = self._network(self._inputs, self._codes)[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(outputs, self._targets)
        return loss / self._accumulate

    def _alone(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        if last or self._ddp is None:
            return contextlib.nullcontext()
        alone: contextlib.AbstractContextManager[None] = self._ddp.no_sync()
        return alone


class Ours:
    """The steps of our loop, examples read from the run folder included."""

    def __init__(self, job: RankJob, folder: Path, place: Place) -> None:
        run = Run(job, folder, place)
        self._stepper: Stepper = run.stepper
        self.plan: Plan = run.plan
        self.feed = Feed(run.train, run.plan, 0, 0, place.device)
        self.seconds = 0.0

    def __call__(self, steps: int) -> None:
        """Take some steps."""
        began = time.perf_counter()
        for _ in range(steps):
            self._stepper.take(self.feed.take(), 1.0)
        self.seconds += time.perf_counter() - began


def variants(job: RankJob, folder: Path, place: Place) -> dict[str, tuple[Steps, int]]:
    """Return every variant, and how many steps its block has. "single" runs on rank 0 alone."""
    blocks: dict[str, tuple[Steps, int]] = {}
    for optimizer in ("sgd", "adamw"):
        blocks[f"single {optimizer}"] = (Bare(job, optimizer, ddp=False), STEPS)
        blocks[f"bare {optimizer}"] = (Bare(job, optimizer, ddp=True), STEPS)
    blocks["ours adamw"] = (Ours(job, folder, place), STEPS)
    few = STEPS // ACCUMULATE
    several = {"optimizer": "adamw", "accumulate": ACCUMULATE}
    blocks["single adamw accumulate"] = (Bare(job, ddp=False, **several), few)  # type: ignore[arg-type]
    blocks["bare adamw accumulate"] = (Bare(job, ddp=True, **several), few)  # type: ignore[arg-type]
    more = replace(job, accumulate=ACCUMULATE)
    blocks["ours adamw accumulate"] = (Ours(more, folder, place), few)
    return blocks


def timed(
    blocks: dict[str, tuple[Steps, int]], rounds: int, place: Place
) -> Iterator[dict[str, float]]:
    """Yield, per round, the seconds per step of each variant."""
    for _ in range(rounds):
        seconds = {}
        for name, (take, steps) in blocks.items():
            dist.barrier()
            began = time.perf_counter()
            if place.rank == 0 or not name.startswith("single"):
                take(steps)
            seconds[name] = (time.perf_counter() - began) / steps
        yield seconds


def making_s(ours: Ours) -> float:
    """Return the seconds that it takes to make the examples of one step, on a core of its own."""
    began, count = time.perf_counter(), 0
    for _ in ours.feed.steps(0, 0):
        count += 1
        if count == STEPS:
            break
    return (time.perf_counter() - began) / count


def main(folder: Path, rounds: int) -> None:
    """Time all variants; rank 0 writes what it found."""
    job = read_job(folder / "job.json")
    with joined(job.precision) as place, contextlib.ExitStack() as stack:
        blocks = variants(job, folder, place)
        ours = [take for take, _ in blocks.values() if isinstance(take, Ours)]
        for one in ours:
            stack.enter_context(one.feed)
        list(timed(blocks, WARM_UP_ROUNDS, place))
        for one in ours:
            one.seconds = one.feed.waited_s = 0.0
        told = list(timed(blocks, rounds, place))
        dist.barrier()
        if place.rank == 0:
            found = {
                "rounds": told,
                "waited_share": ours[0].feed.waited_s / ours[0].seconds,
                "making_s": making_s(ours[0]),
            }
            (folder / "blocks.json").write_text(json.dumps(found))
        dist.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
