"""The units in which a regression is learnt: targets of mean 0 and deviation 1. numpy only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.networks.tasks import MultiClass, Regression, Task


@dataclass(frozen=True)
class Standard:
    """standardised = (target − mean) / deviation."""

    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, task: Task, targets: NDArray[np.float64]) -> "Standard":
        """Return the units of the training slice's targets (n,); none but of a regression."""
        if not isinstance(task, Regression):
            return cls()
        deviation = float(targets.std())
        return cls(float(targets.mean()), deviation if deviation > 0 else 1.0)

    def standardised(self, targets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return targets (n,) in these units."""
        return (targets - self.mean) / self.deviation

    def to_json(self) -> dict[str, float]:
        """Return the units as plain JSON values."""
        return {"mean": self.mean, "deviation": self.deviation}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Standard":
        """Return the units of :meth:`to_json`; KeyError, TypeError or ValueError where none."""
        return cls(float(content["mean"]), float(content["deviation"]))


def stored_targets(task: Task, targets: NDArray[np.float64], standard: Standard) -> NDArray[Any]:
    """Return targets (n,) as the loss takes them: class numbers int64, all else float32."""
    if isinstance(task, MultiClass):
        return targets.astype(np.int64)
    return standard.standardised(targets).astype(np.float32)
