"""What a rank of an exercise does first and last, and how it takes time. torch and numpy alone."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from training.parallel.place import Place

Work = Callable[[Place, dict[str, Any]], dict[str, Any]]
"""What an exercise's rank does, from its settings; rank 0's answer counts."""

Step = Callable[[], object]


def main(work: Work) -> None:
    """Join the other ranks, do the work, write rank 0's result where the caller looks for it."""
    settings, result = Path(sys.argv[1]), Path(sys.argv[2])
    with joined() as place:
        found = work(place, json.loads(settings.read_bytes()))
        if place.rank == 0:
            result.write_text(json.dumps(found))


@contextlib.contextmanager
def joined() -> Iterator[Place]:
    """Join the ranks that torchrun names: NCCL where each has a GPU, otherwise Gloo."""
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available() and torch.cuda.device_count() >= ranks
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
    else:
        torch.set_num_threads(1)
    place = Place(rank, ranks, device, torch.float32)
    if ranks == 1:
        yield place
        return
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield place
    finally:
        dist.destroy_process_group()


@dataclass(frozen=True)
class Team:
    """The first ``size`` ranks, while the others wait. Every rank makes the teams, in one order."""

    size: int
    group: dist.ProcessGroup | None
    place: Place

    @classmethod
    def of(cls, size: int, place: Place) -> "Team":
        """Return the team; all ranks call it."""
        group = dist.new_group(list(range(size))) if place.ranks > 1 else None
        return cls(size, group if isinstance(group, dist.ProcessGroup) else None, place)

    @property
    def is_member(self) -> bool:
        """Whether this rank belongs to it."""
        return self.place.rank < self.size

    def seconds(self, step: Step, steps: int) -> float:
        """Return how long one of ``steps`` steps took: that of the slowest member.

        All ranks of the run call it; who is no member waits, and is told 0.
        """
        everybody_here(self.place)
        took_s = 0.0
        if self.is_member:
            synchronize(self.place)
            started = time.perf_counter()
            for _ in range(steps):
                step()
            synchronize(self.place)
            took_s = (time.perf_counter() - started) / steps
            if self.size > 1:
                slowest = torch.tensor([took_s], dtype=torch.float64, device=self.place.device)
                dist.all_reduce(slowest, dist.ReduceOp.MAX, group=self.group)
                took_s = float(slowest[0])
        everybody_here(self.place)
        return took_s


def everybody_here(place: Place) -> None:
    """Wait for all ranks of the run."""
    if place.ranks > 1:
        dist.barrier()


def synchronize(place: Place) -> None:
    """Wait until the GPU has done what it was told."""
    if place.device.type == "cuda":
        torch.cuda.synchronize(place.device)
