"""The rank of ``kappa lab ddp``: a step's time for 1 to N ranks, with and without all-reduce.

torch and numpy alone. Started by :func:`training.lab.launch.run` as
``python -m training.lab.scaling SETTINGS RESULT RANKS``, or so by torchrun.

One start measures all numbers of ranks: k of them work while the others wait, round after round,
so that what else runs on the machine comes to all of them alike.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.lab.hardware import machine_facts
from training.lab.ranks import Step, Team, main
from training.lab.workload import Workload
from training.parallel.place import Place

MATMUL_SIZE = 768
SMALL_BYTES = 4
LEARNING_RATE = 1e-3


class Trainee:
    """A network on a team's ranks, and its ways to take a step."""

    def __init__(self, workload: Workload, settings: dict[str, Any], team: Team) -> None:
        place = team.place
        torch.manual_seed(7)
        network = workload.build().to(place.device)
        inputs, targets = workload.examples(settings["batch"], place.rank, place.device)
        images = workload.kind == "resnet50"
        if images and place.device.type == "cuda":
            network = network.to(memory_format=torch.channels_last)
            inputs = (inputs[0].contiguous(memory_format=torch.channels_last),)
        self.workload, self.inputs, self.targets = workload, inputs, targets
        self.device = place.device
        self.dtype: torch.dtype = getattr(torch, settings["precision"])
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=0.9)
            if images
            else torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
        )
        self.network: nn.Module = network
        self.meeting: DistributedDataParallel | None = None
        if team.size > 1:
            self.meeting = DistributedDataParallel(
                network,
                device_ids=[place.device] if place.device.type == "cuda" else None,
                process_group=team.group,
                gradient_as_bucket_view=True,
                broadcast_buffers=False,
            )

    def step(self) -> None:
        """Forward, backward with the gradients' all-reduce, the optimiser."""
        self._backward(meets=True)
        self._update()

    def step_apart(self) -> None:
        """The same without the all-reduce: what the ranks could do if links were free."""
        self._backward(meets=False)
        self._update()

    def step_accumulated(self, pieces: int) -> None:
        """Several batches, and one all-reduce at the last."""
        for piece in range(pieces):
            self._backward(meets=piece == pieces - 1)
        self._update()

    def _backward(self, meets: bool) -> None:
        network = self.network if self.meeting is None else self.meeting
        apart: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if self.meeting is not None and not meets:
            apart = self.meeting.no_sync()
        mixed = self.dtype != torch.float32
        with apart:
            with torch.autocast(self.device.type, self.dtype, enabled=mixed):
                outputs: Tensor = network(*self.inputs)
            self.workload.loss(outputs, self.targets).backward()  # type: ignore[no-untyped-call]

    def _update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


def measure(place: Place, settings: dict[str, Any]) -> dict[str, Any]:
    """Return per number of ranks the seconds per round of each way to take a step.

    Settings: ``workload``, ``counts``, ``batch`` (per rank), ``steps`` (per timing), ``rounds``,
    ``accumulate``, ``precision``.
    """
    workload = Workload.from_json(settings["workload"])
    steps, pieces = settings["steps"], settings["accumulate"]
    teams = [Team.of(size, place) for size in settings["counts"]]
    works: list[tuple[Team, str, Step, int]] = []
    for team in teams:
        ways = _ways(workload, settings, team) if team.is_member else {}
        names = ("step", "apart", "accumulated", "reduce", "small", "matmul")
        for name in names:
            step = ways.get(name, _nothing)
            count = max(1, steps // pieces) if name == "accumulated" else steps
            works.append((team, name, step, count))
    found: dict[str, dict[str, list[float]]] = {str(team.size): {} for team in teams}
    for team, _, step, _ in works:
        team.seconds(step, 1)  # the first time costs more
    for _ in range(settings["rounds"]):
        for team, name, step, count in works:
            took_s = team.seconds(step, count)
            found[str(team.size)].setdefault(name, []).append(took_s)
    on_gpu = place.device.type == "cuda"
    return {
        "seconds": found,
        "gradient_bytes": _parameters(workload) * 4,
        "matmul_flops": 2 * MATMUL_SIZE**3,
        "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "backend": dist.get_backend() if place.ranks > 1 else "none",
        "on_gpu": on_gpu,
        "machine": machine_facts(on_gpu),
    }


def _ways(
    workload: Workload, settings: dict[str, Any], team: Team
) -> dict[str, Callable[[], object]]:
    trainee = Trainee(workload, settings, team)
    device, pieces = team.place.device, settings["accumulate"]
    gradients = torch.ones(_parameters(workload), device=device)
    small = torch.ones(SMALL_BYTES // 4, device=device)
    matrix = torch.ones(MATMUL_SIZE, MATMUL_SIZE, device=device)
    ways: dict[str, Callable[[], object]] = {
        "step": trainee.step,
        "apart": trainee.step_apart,
        "accumulated": lambda: trainee.step_accumulated(pieces),
        "matmul": lambda: matrix @ matrix,
    }
    if team.size > 1:
        ways["reduce"] = lambda: dist.all_reduce(gradients, dist.ReduceOp.MAX, group=team.group)
        ways["small"] = lambda: dist.all_reduce(small, dist.ReduceOp.MAX, group=team.group)
    return ways


def _parameters(workload: Workload) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in workload.build().parameters())


def _nothing() -> None:
    pass


if __name__ == "__main__":
    main(measure)
