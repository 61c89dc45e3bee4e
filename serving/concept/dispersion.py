"""By how much sums of losses vary more than those of independent ones.

Losses of one hour, one place, one customer are alike, and so are those of weekdays. Taken for
independent, a shift of their mean that is everyday life would count as proof. The factor is
measured on what came before: on blocks of several lengths within a closing, and from closing to
closing.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.concept.detector import Floats

LENGTHS = (32, 128, 512, 2048)
BLOCKS = 8
"""A length counts where a closing has so many blocks of it."""
REMEMBERED = 28
"""Closings that the factor is measured on."""
DIFFERENCES = 8
"""Closing to closing counts from so many differences on."""
UPPER = 0.8
CHI_SQUARED_UPPER = 1.642374415149816  # the quantile UPPER of χ² with one degree of freedom


class LossDispersion:
    """The factor φ ≥ 1 of a version's losses."""

    def __init__(self) -> None:
        self._blocks: deque[list[float]] = deque(maxlen=REMEMBERED)
        self._closings: deque[list[float]] = deque(maxlen=REMEMBERED)

    def add(self, losses: Floats) -> None:
        """Take the losses of a closing, in their order, (n,)."""
        if len(losses) < 2:
            return
        variance = float(losses.var(ddof=1))
        self._closings.append([float(len(losses)), float(losses.mean()), variance])
        if variance > 0:
            self._blocks.append([_block_factor(losses, each, variance) for each in LENGTHS])

    def part(self) -> None:
        """The losses that follow are another model's: to them the step from those before says
        nothing of how days differ."""
        if self._closings and self._closings[-1][0]:
            self._closings.append([0.0, 0.0, 0.0])

    @property
    def known(self) -> bool:
        """Whether any losses were taken."""
        return bool(self._closings)

    @property
    def factor(self) -> float:
        """φ: the largest over the lengths of the median over closings; and of the differences from
        one closing to the next, so that a weekend's are in it and a single change is not, what the
        upper fifth of them begins at."""
        found = 1.0
        if self._blocks:
            table = np.array(self._blocks)
            for column in table.T:
                known = column[np.isfinite(column)]
                if 2 * len(known) > len(table):
                    found = max(found, float(np.median(known)))
        n, mean, variance = np.array(self._closings).reshape(-1, 3).T
        next_to = (n[1:] > 0) & (n[:-1] > 0)
        if int(next_to.sum()) >= DIFFERENCES:
            errors = variance / np.maximum(n, 1.0)
            expected = (errors[1:] + errors[:-1])[next_to]
            squares = np.diff(mean)[next_to] ** 2 / np.maximum(expected, 1e-300)
            found = max(found, float(np.quantile(squares, UPPER)) / CHI_SQUARED_UPPER)
        return found

    def to_json(self) -> Any:
        """Return the content as JSON."""
        blocks = [[None if np.isnan(x) else x for x in each] for each in self._blocks]
        return {"blocks": blocks, "closings": [list(each) for each in self._closings]}

    def load(self, content: Any) -> None:
        """Take over what :meth:`to_json` returned."""
        self._blocks.clear()
        self._blocks.extend([[np.nan if x is None else x for x in e] for e in content["blocks"]])
        self._closings.clear()
        self._closings.extend([list(each) for each in content["closings"]])


def _block_factor(losses: NDArray[np.float64], length: int, variance: float) -> float:
    """Return the variance of block means in units of that of independent losses, or NaN."""
    blocks = len(losses) // length
    if blocks < BLOCKS:
        return float("nan")
    means = losses[: blocks * length].reshape(blocks, length).mean(axis=1)
    return float(means.var(ddof=1)) * length / variance
