"""What a pipeline's stages did when: bubble, and micro-batches in flight. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Literal

Work = Literal["forward", "backward"]


@dataclass(frozen=True)
class Interval:
    """A stage's work on a micro-batch, in seconds since the step began."""

    stage: int
    microbatch: int
    work: Work
    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end_s - self.start_s


def bubble_of(intervals: Sequence[Interval]) -> float:
    """Return the share of the stages' time in which they wait: 1 − Σ busy / (p · whole).

    The whole lasts from the first work of any stage to the last; of no work it is 0.
    """
    if not intervals:
        return 0.0
    whole_s = max(i.end_s for i in intervals) - min(i.start_s for i in intervals)
    stages = len({interval.stage for interval in intervals})
    return 1 - sum(interval.seconds for interval in intervals) / (stages * whole_s)


def in_flight(intervals: Iterable[Interval]) -> dict[int, int]:
    """Return stage → the most micro-batches whose activations it kept at a time.

    One is kept from the beginning of its forward to the end of its backward pass.
    """
    found: dict[int, int] = {}
    stage_of = attrgetter("stage")
    for stage, group in groupby(sorted(intervals, key=stage_of), key=stage_of):
        changes = sorted((i.start_s, 1) if i.work == "forward" else (i.end_s, -1) for i in group)
        kept = most = 0
        for _, change in changes:
            kept += change
            most = max(most, kept)
        found[stage] = most
    return found


def order_of(schedule: str, stage: int, stages: int, microbatches: int) -> list[tuple[Work, int]]:
    """Return what a stage does after what: (work, micro-batch).

    GPipe: all forward passes, then all backward passes. 1F1B: stage s of p begins with p - s
    forward passes, then takes one backward and one forward in turns (Narayanan et al. 2019).
    """
    first = microbatches if schedule == "gpipe" else min(microbatches, stages - stage)
    order: list[tuple[Work, int]] = [("forward", i) for i in range(first)]
    for i in range(microbatches):
        order.append(("backward", i))
        if first + i < microbatches:
            order.append(("forward", first + i))
    return order


def played(
    schedule: str, microbatches: int, times_s: Sequence[Mapping[Work, float]]
) -> list[Interval]:
    """Return a step in which each pass takes its stage's ``times_s`` and links take none.

    Its bubble is what the schedule itself costs with these stages: (p-1)/(m+p-1) where all take
    the same, more where one is slower than the others.
    """
    stages = len(times_s)
    left = [order_of(schedule, stage, stages, microbatches) for stage in range(stages)]
    free_s = [0.0] * stages
    ends: dict[tuple[int, int, Work], float] = {}
    found = []
    while any(left):
        for stage, order in enumerate(left):
            while order:
                work, number = order[0]
                neighbour = stage - 1 if work == "forward" else stage + 1
                before = (neighbour, number, work)
                if 0 <= neighbour < stages and before not in ends:
                    break
                start_s = max(free_s[stage], ends.get(before, 0.0))
                free_s[stage] = ends[stage, number, work] = start_s + times_s[stage][work]
                found.append(Interval(stage, number, work, start_s, free_s[stage]))
                order.pop(0)
    return found
