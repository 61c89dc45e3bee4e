"""How much a feature's distribution moves from one stretch of time to the next though nothing has
happened: what events that are not independent (windows over days, heavy entities, weekdays) add to
the noise of counting. numpy only.

The training rows are cut into blocks of time, and each block is compared with all blocks before
it, as a monitor's window will be with the reference. Were events independent, the two-sample
chi-squared X² of B bins would be B − 1 on average; what it is in truth is X² = (B − 1)·φ, with φ
the dispersion factor of quasi-likelihood (Wedderburn 1974; McCullagh and Nelder 1989, 4.5). Where
few movements account for all bins together, X² also scatters more than a chi-squared of B − 1
degrees of freedom: it has d = (tr Σ)² / tr Σ² of them, Σ the covariance of the bins' differences
(Satterthwaite's approximation, as in Rao and Scott's second-order correction, 1984). Of K
comparisons the estimated Σ has rank K at most, so d is told too small rather than too large, and
chance is given more than its due. So X² / ((B − 1)·φ) is judged as F with d and d·K degrees of
freedom, as φ is the mean of K comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MINUTE_MS = 60_000
LENGTHS_MS = tuple(m * MINUTE_MS for m in (1, 10, 60, 360, 1_440, 7 * 1_440, 28 * 1_440))
"""Lengths of blocks; each is a multiple of the one before."""
LEAST_BLOCKS, MOST_BLOCKS = 4, 2_000
LEAST_ROWS = 100
"""Blocks of fewer rows are compared with nothing."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Variation:
    """What holds for one window: the factor φ ≥ 1, and d and K as above; K = 0 where nothing is
    known, and counting noise alone is expected."""

    factor: float = 1.0
    freedom: float = np.inf
    comparisons: int = 0


@dataclass(frozen=True)
class Dispersion:
    """A feature's factors by length of block, shortest first; all sequences are equally long.

    ``rows`` are the rows per block on average.
    """

    lengths_ms: tuple[int, ...] = ()
    factors: tuple[float, ...] = ()
    freedoms: tuple[float, ...] = ()
    comparisons: tuple[int, ...] = ()
    rows: tuple[float, ...] = ()

    def of_window(self, window_ms: int, n: int) -> Variation:
        """Return what a window of this length with ``n`` events varies by.

        Between two lengths the factor's logarithm goes straight in the length's; beyond the
        longest it rises as it did from the one before, at most in proportion. A window with other
        than the usual number of events, such as that of a group, has the same movements under
        another noise: φ − 1 goes with n.
        """
        if not self.lengths_ms:
            return Variation()
        lengths, factors = np.log(self.lengths_ms), np.log(self.factors)
        at = np.log(max(1, window_ms))
        log_factor = float(np.interp(at, lengths, factors))
        if at > lengths[-1] and len(lengths) > 1:
            slope = (factors[-1] - factors[-2]) / (lengths[-1] - lengths[-2])
            log_factor += float(np.clip(slope, 0.0, 1.0) * (at - lengths[-1]))
        near = max(0, int(np.searchsorted(self.lengths_ms, window_ms, "right")) - 1)
        usual = self.rows[near] * window_ms / self.lengths_ms[near]
        factor = 1.0 + float(np.expm1(log_factor)) * (n / usual)
        return Variation(max(1.0, factor), self.freedoms[near], self.comparisons[near])

    def to_json(self) -> list[list[float]]:
        """Return one list per length."""
        return [
            [float(value) for value in entry]
            for entry in zip(
                self.lengths_ms, self.factors, self.freedoms, self.comparisons, self.rows,
                strict=True,
            )
        ]  # fmt: skip

    @classmethod
    def from_json(cls, content: Sequence[Sequence[float]]) -> Dispersion:
        """Return what :meth:`to_json` wrote; TypeError or ValueError where it is none."""
        if not content:
            return cls()
        lengths, factors, freedoms, comparisons, rows = zip(*content, strict=True)
        return cls(
            tuple(map(int, lengths)), tuple(map(float, factors)), tuple(map(float, freedoms)),
            tuple(map(int, comparisons)), tuple(map(float, rows)),
        )  # fmt: skip


UNKNOWN = Dispersion()
"""Nothing is known: events are taken as independent."""


class Blocks:
    """Counts per block and bin of rows that come in pieces; ``first_ms`` and ``last_ms`` are the
    first and last event time of all of them. Blocks are whole behind: they end with the last."""

    def __init__(self, first_ms: int, last_ms: int, most: int = MOST_BLOCKS) -> None:
        span_ms = last_ms - first_ms + 1
        self.lengths_ms = [x for x in LENGTHS_MS if LEAST_BLOCKS <= span_ms // x <= most]
        self._last_ms = last_ms
        self._base_ms = self.lengths_ms[0] if self.lengths_ms else span_ms
        self._blocks = span_ms // self._base_ms if self.lengths_ms else 0
        self._counts: dict[str, Ints] = {}

    def add(self, times_ms: Ints, bins: Mapping[str, Ints], widths: Mapping[str, int]) -> None:
        """Take rows: their times (n,), each feature's bins (n,), and how many bins it has."""
        if not self._blocks:
            return
        age = (self._last_ms - times_ms) // self._base_ms
        kept = age < self._blocks  # the oldest block, which is cut, is left out
        block = self._blocks - 1 - age[kept]
        for name, found in bins.items():
            width = widths[name]
            cells = np.bincount(block * width + found[kept], minlength=self._blocks * width)
            counted = cells.reshape(self._blocks, width)
            self._counts[name] = self._counts.get(name, 0) + counted

    def dispersions(self) -> dict[str, Dispersion]:
        """Return each feature's dispersion; those of which nothing can be told are left out."""
        found = {name: self._dispersion(counts) for name, counts in self._counts.items()}
        return {name: each for name, each in found.items() if each.lengths_ms}

    def _dispersion(self, counts: Ints) -> Dispersion:
        found = []
        for length_ms in self.lengths_ms:
            size = length_ms // self._base_ms
            whole = counts[len(counts) % size :].reshape(-1, size, counts.shape[1]).sum(axis=1)
            entry = measured(whole)
            if entry is not None:
                found.append((length_ms, *entry))
        return Dispersion.from_json(found)


def measured(blocks: Ints) -> tuple[float, float, int, float] | None:
    """Return (φ, d, K, rows per block) of counts (blocks, bins), oldest first.

    None where fewer than :data:`LEAST_BLOCKS` have rows enough, or all rows are in one bin.
    """
    sizes = blocks.sum(axis=1)
    blocks, sizes = blocks[sizes >= LEAST_ROWS], sizes[sizes >= LEAST_ROWS]
    blocks = blocks[:, blocks.any(axis=0)]
    bins = blocks.shape[1]
    if len(blocks) < LEAST_BLOCKS or bins < 2:
        return None
    differences = forward_differences(blocks.astype(np.float64))
    covariance = differences.T @ differences / len(differences)
    total, squares = float(np.trace(covariance)), float((covariance**2).sum())
    freedom = total**2 / squares if squares > 0 else bins - 1.0
    bounded = float(np.clip(freedom, 1.0, bins - 1))
    return max(1.0, total / (bins - 1)), bounded, len(differences), float(sizes.mean())


def forward_differences(blocks: Floats) -> Floats:
    """Return each block but the first against all before it, (blocks − 1, bins): of independent
    events about standard normal, and of each row the sum of squares is the two-sample X²."""
    before, after = np.cumsum(blocks, axis=0)[:-1], blocks[1:]
    n_before = before.sum(axis=1, keepdims=True)
    n_after = after.sum(axis=1, keepdims=True)
    pooled = (before + after) / (n_before + n_after)
    noise = np.sqrt(pooled * (1 / n_before + 1 / n_after))
    difference = after / n_after - before / n_before
    result: Floats = np.divide(difference, noise, out=np.zeros_like(pooled), where=pooled > 0)
    return result
