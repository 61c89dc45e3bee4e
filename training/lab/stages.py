"""The rank of ``kappa lab pipeline``: one stage, in both schedules, for several micro-batches.

torch and numpy alone. Micro-batches keep their size, so a batch of more of them is a larger one.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from training.lab.hardware import machine_facts
from training.lab.ranks import Team, everybody_here, main
from training.lab.workload import Workload
from training.parallel.declared import Parallel
from training.parallel.measuring import Record, measured
from training.parallel.parallelize import parallelize
from training.parallel.place import Place
from training.parallel.strategy import Batch, Strategy

SCHEDULES = ("gpipe", "1f1b")
WORKS = ("forward", "backward")
ALONE = 4
"""Micro-batches that one rank takes alone, beside each step."""


@dataclass(frozen=True)
class _Step:
    """One measured step of all stages; see :class:`training.lab.intervals.Interval`."""

    intervals: list[list[float]]
    in_flight: list[int]
    saved_bytes: list[int]


def measure(place: Place, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what the stages did in each schedule and number of micro-batches, step by step.

    Settings: ``workload``, ``microbatches`` (a list), ``rows`` (per micro-batch), ``rounds``.
    """
    workload = Workload.from_json(settings["workload"])
    alone = _Alone(workload, place, settings["rows"])
    runs = []
    for microbatches in settings["microbatches"]:
        for schedule in SCHEDULES:
            strategy = _strategy(workload, place, microbatches, schedule)
            inputs, targets = workload.examples(microbatches * settings["rows"], 0, place.device)
            batch = Batch(inputs, targets[:, 0], torch.ones(len(targets), device=place.device))
            _step(strategy, batch, place)  # the first one connects
            steps = []
            for _ in range(settings["rounds"]):
                before_s = alone.seconds()
                steps.append({**vars(_step(strategy, batch, place)), "microbatch_s": before_s})
            runs.append({"schedule": schedule, "microbatches": microbatches, "steps": steps})
            del strategy
    on_gpu = place.device.type == "cuda"
    return {
        "runs": runs,
        "stages": place.ranks,
        "on_gpu": on_gpu,
        "machine": machine_facts(on_gpu),
    }


class _Alone:
    """One rank that takes micro-batches through the whole network, while the others wait."""

    def __init__(self, workload: Workload, place: Place, rows: int) -> None:
        self._team = Team.of(1, place)
        torch.manual_seed(7)
        self._network = workload.build().to(place.device) if self._team.is_member else None
        self._inputs, targets = workload.examples(rows, 0, place.device)
        self._targets = targets[:, 0]
        self.seconds()

    def seconds(self) -> float:
        """Return how long one micro-batch takes, of several."""
        return self._team.seconds(self._step, ALONE)

    def _step(self) -> None:
        if self._network is not None:
            loss = _squared(self._network(*self._inputs), self._targets).mean()
            loss.backward()  # type: ignore[no-untyped-call]


def _strategy(workload: Workload, place: Place, microbatches: int, schedule: str) -> Strategy:
    torch.manual_seed(7)
    parallel = Parallel(
        pipeline=place.ranks,
        schedule="gpipe" if schedule == "gpipe" else "1f1b",
        microbatches=microbatches,
    )
    return parallelize(workload.build(), workload.shape, place, parallel)


def _step(strategy: Strategy, batch: Batch, place: Place) -> _Step:
    everybody_here(place)
    with measured(strategy) as record:
        strategy.backward([batch], _squared, 1 / len(batch.targets), lambda loss: loss)
    strategy.module.zero_grad(set_to_none=True)
    return _gathered(record, place)


def _gathered(record: Record, place: Place) -> _Step:
    """Bring the stages' records together, as numbers in one tensor; times begin with the step."""
    rows = [
        [i.stage, i.microbatch, WORKS.index(i.work), i.start_s, i.end_s] for i in record.intervals
    ]
    kept = [record.in_flight, record.saved_bytes, 0, 0, 0]
    mine = torch.tensor([*rows, kept], dtype=torch.float64, device=place.device)
    every = [torch.empty_like(mine) for _ in range(place.ranks)]
    if place.ranks > 1:
        dist.all_gather(every, mine)
    else:
        every = [mine]
    intervals = torch.cat([each[:-1] for each in every])
    intervals[:, 3:] -= intervals[:, 3].min()
    return _Step(
        intervals.tolist(),
        [int(each[-1, 0]) for each in every],
        [int(each[-1, 1]) for each in every],
    )


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets) ** 2


if __name__ == "__main__":
    main(measure)
