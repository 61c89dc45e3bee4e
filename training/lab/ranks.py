"""What a rank of an exercise does first and last, and how it takes time. torch and numpy alone."""

import contextlib
import importlib
import json
import multiprocessing
import multiprocessing.connection
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
    """Do the work on all ranks; write rank 0's result where the caller looks for it.

    The arguments are the settings' file, the result's, and the number of ranks. They are forked
    here, so that torch, which takes seconds to import, is imported once. Under torchrun this
    process is one of the ranks already.
    """
    settings, result, ranks = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    if ranks == 1 or "RANK" in os.environ:
        _work(work, settings, result, None)
        return
    importlib.import_module("torch._dynamo")  # as optimisers and DDP would do in each rank
    fork = multiprocessing.get_context("fork")
    store = result.with_name("ranks.store")
    processes = [
        fork.Process(target=_forked, args=(work, settings, result, store, rank, ranks))
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    left = processes
    while left:
        multiprocessing.connection.wait([process.sentinel for process in left])
        left = [process for process in left if process.exitcode is None]
        if any(process.exitcode for process in processes):
            for process in left:
                process.kill()  # they would wait for the one that failed
            sys.exit(1)


def _forked(work: Work, settings: Path, result: Path, store: Path, rank: int, ranks: int) -> None:
    named = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks}
    os.environ.update({name: str(value) for name, value in named.items()})
    _work(work, settings, result, store)


def _work(work: Work, settings: Path, result: Path, store: Path | None) -> None:
    with joined(store) as place:
        found = work(place, json.loads(settings.read_bytes()))
        if place.rank == 0:
            result.write_text(json.dumps(found))


@contextlib.contextmanager
def joined(store: Path | None = None) -> Iterator[Place]:
    """Join the ranks that the environment names: NCCL where each has a GPU, otherwise Gloo.

    They meet by way of the file ``store``, or as torchrun says.
    """
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
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"file://{store}" if store else "env://",
        rank=rank,
        world_size=ranks,
    )
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
