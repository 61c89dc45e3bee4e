"""What a model answers. numpy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answers:
    """n calibrated answers.

    ``score`` (n,): of a binary task the probability of label 1; of several classes that of the most
    probable one; of a regression the mean. ``probabilities`` (n, C) where there are several
    classes, ``spread`` (n,) where the answer is a normal distribution: its standard deviation.
    """

    score: Floats
    probabilities: Floats | None = None
    spread: Floats | None = None

    @classmethod
    def of_classes(cls, probabilities: Floats) -> "Answers":
        """Return the answers of probabilities (n, C)."""
        return cls(probabilities.max(axis=1), probabilities)

    def __len__(self) -> int:
        """Return how many answers there are."""
        return len(self.score)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> "Answers":
        """Return the answers of ``rows``."""
        return Answers(
            self.score[rows],
            None if self.probabilities is None else self.probabilities[rows],
            None if self.spread is None else self.spread[rows],
        )
