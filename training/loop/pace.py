"""When a checkpoint is due within an epoch: after so many steps, the same on every rank."""

import time

from training.loop.run_folder import RankJob
from training.parallel.place import Place

_FIRST = 20  # steps after which the time of a step is first known


class Pace:
    """Turns "every so many seconds" into a number of steps, by rank 0's clock.

    The ranks talk about it at the checkpoints alone, so that no step waits for it.
    """

    def __init__(self, job: RankJob, place: Place, steps: int) -> None:
        self._every, self._every_s, self._place = job.checkpoint_steps, job.checkpoint_s, place
        self._known = (steps, time.monotonic())
        self._next = steps + _FIRST
        self._measuring = True

    def due(self, steps: int) -> bool:
        """Return whether a checkpoint is due after ``steps`` steps; called once for each."""
        if self._every is not None:
            return steps % self._every == 0
        if self._every_s <= 0 or steps < self._next:
            return False
        due = not self._measuring
        self._measuring = False
        before, began = self._known
        step_s = (time.monotonic() - began) / max(1, steps - before)
        (step_s,) = self._place.sum_over_ranks(step_s if self._place.rank == 0 else 0.0)
        self._known = (steps, time.monotonic())
        self._next = steps + max(1, int(self._every_s / max(step_s, 1e-9)))
        return due
