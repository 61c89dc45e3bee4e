"""What is kept of the answers that are compared: sums over clusters and counts, nothing per answer.

So the memory is bounded, and the verdict is a function of *which* outcomes have been read: sums of
the same outcomes read in another order differ in the last bits of floating point at most.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.rollout.rows import GROUP_VALUES, Rows
from serving.rollout.statistics import BUCKETS, Estimate, estimate

COUNT, LOSS, LOSS2, RESIDUAL, RESIDUAL2 = range(5)
SCORE_BINS = 10
LATENCIES = 97
"""Bins of latency: below 1 ms, then four to each doubling; the last holds all from 4.7 h on."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def latency_bins(latency_ms: Floats) -> Ints:
    """Return the bin of each latency."""
    ms = np.maximum(latency_ms, 0.5)
    bins: Ints = np.floor(4 * np.log2(ms)).astype(np.int64) + 1
    return np.clip(bins, 0, LATENCIES - 1)


def latency_limit(number: int) -> float:
    """Return the latency, in milliseconds, below which a bin's answers are."""
    return float(2.0 ** (number / 4))


@dataclass(slots=True)
class Arm:
    """The answers of one version.

    ``sums`` (5, buckets): counts, losses, squares, residuals, squares; ``groups`` (3, values):
    counts, losses, squares; ``scores`` and ``latency`` are counts; ``failures`` are the answers
    that could not be scored, and stand in nothing else.
    """

    sums: Floats = field(default_factory=lambda: np.zeros((5, BUCKETS)))
    groups: Floats = field(default_factory=lambda: np.zeros((3, GROUP_VALUES)))
    scores: Ints = field(default_factory=lambda: np.zeros(SCORE_BINS, np.int64))
    latency: Ints = field(default_factory=lambda: np.zeros(LATENCIES, np.int64))
    failures: int = 0

    @property
    def n(self) -> int:
        """The answers that could be scored."""
        return int(self.sums[COUNT].sum())

    def add(self, rows: Rows) -> None:
        """Count answers, failed ones too, but for their scores."""
        scored = np.isfinite(rows.loss)
        if not scored.all():
            self.failures += int((~scored).sum())
            rows = rows.at(scored)
        where, loss, residual = rows.bucket, rows.loss, rows.residual
        for row, values in (
            (COUNT, np.ones(len(loss))),
            (LOSS, loss),
            (LOSS2, loss * loss),
            (RESIDUAL, residual),
            (RESIDUAL2, residual * residual),
        ):
            np.add.at(self.sums[row], where, values)  # one by one, however the log is cut
        for column in rows.groups.T:
            mine = column >= 0
            if mine.any():
                np.add.at(self.groups[0], column[mine], 1.0)
                np.add.at(self.groups[1], column[mine], loss[mine])
                np.add.at(self.groups[2], column[mine], loss[mine] ** 2)
        known = rows.latency_ms[np.isfinite(rows.latency_ms)]
        if len(known):
            np.add.at(self.latency, latency_bins(known), 1)

    def loss(self) -> Estimate:
        """Return the mean loss."""
        return estimate(self.sums[COUNT], self.sums[LOSS], float(self.sums[LOSS2].sum()))

    def residual(self) -> Estimate:
        """Return the mean residual: mean score − mean label."""
        return estimate(self.sums[COUNT], self.sums[RESIDUAL], float(self.sums[RESIDUAL2].sum()))


@dataclass(slots=True)
class Comparison:
    """A challenger's answers beside the live version's: to the same events, or to others.

    ``cross`` (buckets,) are sums of the products of both losses; only of the same events.
    ``edges`` are those of the bins of scores, the deciles of the live version's first
    :data:`FIRST_SCORES`; until there are so many, both versions' scores wait in ``waiting``.
    """

    challenger: Arm = field(default_factory=Arm)
    live: Arm = field(default_factory=Arm)
    cross: Floats = field(default_factory=lambda: np.zeros(BUCKETS))
    edges: Floats | None = None
    waiting: list[tuple[bool, float]] = field(default_factory=list)

    def add_pairs(self, challenger: Rows, live: Rows) -> None:
        """Count answers to the same events; what either failed to score counts in neither."""
        both = np.isfinite(challenger.loss) & np.isfinite(live.loss)
        if not both.all():
            self.challenger.failures += int((~np.isfinite(challenger.loss)).sum())
            self.live.failures += int((~np.isfinite(live.loss)).sum())
            challenger, live = challenger.at(both), live.at(both)
        self.challenger.add(challenger)
        self.live.add(live)
        np.add.at(self.cross, live.bucket, challenger.loss * live.loss)
        self._add_scores(
            np.column_stack([live.score, challenger.score]).ravel(),
            np.tile([False, True], len(live)),
        )

    def add_arms(self, rows: Rows, is_challenger: NDArray[np.bool_]) -> None:
        """Count answers to different events, in the order of the log."""
        self.challenger.add(rows.at(is_challenger))
        self.live.add(rows.at(~is_challenger))
        scored = np.isfinite(rows.loss)
        self._add_scores(rows.score[scored], is_challenger[scored])

    def difference(self, factor: float = 1.0) -> Estimate:
        """Return the mean of challenger's loss − factor × live's, of pairs."""
        a, b = self.challenger.sums, self.live.sums
        squares = (
            float(a[LOSS2].sum())
            - 2 * factor * float(self.cross.sum())
            + factor**2 * float(b[LOSS2].sum())
        )
        return estimate(a[COUNT], a[LOSS] - factor * b[LOSS], squares)

    def _add_scores(self, scores: Floats, is_challenger: NDArray[np.bool_]) -> None:
        if self.edges is None:
            need = FIRST_SCORES - sum(not of for of, _ in self.waiting)
            from_live = np.cumsum(~is_challenger)
            cut = int(np.searchsorted(from_live, need)) + 1
            self.waiting += zip(is_challenger[:cut].tolist(), scores[:cut].tolist(), strict=True)
            if not len(from_live) or from_live[-1] < need:
                return
            firsts = np.array([score for of, score in self.waiting if not of])
            self.edges = np.quantile(firsts, np.arange(1, SCORE_BINS) / SCORE_BINS)
            waited, self.waiting = self.waiting, []
            self._count(np.array([s for _, s in waited]), np.array([of for of, _ in waited]))
            scores, is_challenger = scores[cut:], is_challenger[cut:]
        self._count(scores, is_challenger)

    def _count(self, scores: Floats, is_challenger: NDArray[np.bool_]) -> None:
        edges: Any = self.edges
        bins = np.searchsorted(edges, scores, side="right")
        np.add.at(self.challenger.scores, bins[is_challenger], 1)
        np.add.at(self.live.scores, bins[~is_challenger], 1)


FIRST_SCORES = 100
