"""Whether weights that go on learning answer worse than those that they began from.

Each outcome is answered by both before it is learned from, so the differences of their losses are
prequential (Dawid 1984). Their mean is looked at after every mini-batch, which a fixed test does
not allow: the limit is that of a confidence sequence
(:mod:`serving.rollout.statistics`), of the mean difference given the past, which holds for whatever
sequence of outcomes (Choe and Ramdas, "Comparing sequential forecasters", 2023). It begins anew
with each stretch of outcomes: long merits must not hide a fresh harm.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.rollout.statistics import estimate_of, lower_limit, to_json

MINIMUM = 30
"""Differences before anything is found: the limit is asymptotic."""

LOOK = 16
"""Differences between two looks; fewer of them change no limit much, and a look costs 40 µs."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """What a guard says after a mini-batch.

    ``worse``: go back. ``stood``: a whole stretch is over, and nothing was found.
    """

    worse: bool
    stood: bool
    evidence: dict[str, Any]


class Guard:
    """Compares losses, outcome by outcome.

    Args:
        stretch: outcomes in a stretch.
        alpha: in each stretch, the chance that weights which are no worse are found worse.
    """

    def __init__(self, stretch: int, alpha: float) -> None:
        self._stretch, self._alpha = stretch, alpha
        self.differences: Floats = np.empty(0)

    def judge(self, mine: Floats, base: Floats) -> Finding:
        """Take losses (n,) of the learning weights and of the base, smaller is better.

        A loss of mine that is no number is worse than any.
        """
        if not np.isfinite(mine).all():
            self.begin()
            return Finding(True, False, {"why": "an answer was no number"})
        before = len(self.differences)
        self.differences = np.concatenate([self.differences, mine - base])
        n = len(self.differences)
        if n // LOOK == before // LOOK and n < self._stretch:
            return Finding(False, False, {})
        found = estimate_of(self.differences)
        limit = -np.inf
        if found.n >= MINIMUM and found.error > 0:
            limit = lower_limit(found, self._stretch / 4, self._alpha)
        evidence = {"difference": to_json(found), "alpha": self._alpha}
        if limit > 0:
            evidence["lower_limit"] = float(f"{limit:.6g}")
            self.begin()
            return Finding(True, False, evidence)
        stood = found.n >= self._stretch
        if stood:
            self.begin()
        return Finding(False, stood, evidence)

    def begin(self) -> None:
        """Begin a stretch."""
        self.differences = np.empty(0)
