"""Lines of progress for steps, so few that the steps do not feel them."""

import time

import torch
from torch import Tensor

from training.loop.feeding import Fed
from training.loop.progress import ProgressWriter
from training.loop.stepping import Taken

EVERY_S = 1.0


class Meter:
    """Gathers what the steps tell, and writes a line after the first, then every second.

    What is on the device is read for a line alone. Without a writer (other ranks) it does nothing.
    """

    def __init__(self, progress: ProgressWriter | None, steps: int) -> None:
        self._progress, self._steps = progress, steps
        self._time, self._waited_s = time.perf_counter(), 0.0
        self._due = 0.0
        self._loss: Tensor | float = 0.0
        self._weight = self._rows = 0.0

    def after(
        self, steps: int, fed: Fed, taken: Taken, learning_rate: float, waited_s: float,
        scaler: torch.amp.GradScaler,
    ) -> None:  # fmt: skip
        """Take in a step; ``waited_s`` is how long steps have waited for examples so far."""
        if self._progress is None:
            return
        self._loss = self._loss + taken.loss
        self._weight += fed.share_weight
        self._rows += fed.rows
        now = time.perf_counter()
        if now < self._due:
            return
        passed = max(now - self._time, 1e-9)
        self._progress.write("step", {
            "epoch": fed.epoch,
            "steps": steps,
            "loss": float(self._loss) / max(self._weight, 1e-12),
            "learning_rate": learning_rate,
            "gradient_norm": float(taken.norm),
            "scale": scaler.get_scale(),
            "examples_per_s": self._rows / passed,
            "waited_share": (waited_s - self._waited_s) / passed,
        })  # fmt: skip
        self._loss, self._weight, self._rows = 0.0, 0.0, 0.0
        self._time, self._due, self._waited_s = now, now + EVERY_S, waited_s
