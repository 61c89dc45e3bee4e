"""What a pipeline's stages did when: bubble, and micro-batches in flight. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Literal


@dataclass(frozen=True)
class Interval:
    """A stage's work on a micro-batch, in seconds since the step began."""

    stage: int
    microbatch: int
    work: Literal["forward", "backward"]
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
