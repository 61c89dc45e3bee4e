"""Whether scores still mean what they meant in validation, and what loss they let expect. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, norm

from serving.concept.score_sums import Floats, Ints, groups_of
from training.score_reference import lower_bound

GROUPS = 10
LEAST = 50
"""A group of scores with fewer validation rows or labels than this is not compared."""


@dataclass(frozen=True)
class Group:
    """Scores in [low, high): the mean score and share of label 1 (or of hits), and what share is
    expected from the scores by what validation showed."""

    low: float
    high: float
    n: int
    expected: float
    observed: float


@dataclass(frozen=True)
class CalibrationShift:
    """``value``: by how much the share of label 1 differs from what validation lets expect at the
    same scores, the mean over events; ``chance`` the p-value of χ² over the groups."""

    value: float
    chance: float
    n: int
    groups: tuple[Group, ...]


def calibration_shift(
    counts: Floats, score_sums: Floats, hit_sums: Floats, validation: Floats, dispersion: float
) -> CalibrationShift | None:
    """Compare matched labels with validation's, group by group of the score.

    Args:
        counts: matched labels per cell, (CELLS,).
        score_sums: the sum of their scores.
        hit_sums: how many had label 1, or of several classes the most probable one.
        validation: the same three of validation, (CELLS, 3).
        dispersion: by which factor sums vary more than those of independent labels.

    Returns None where no group has enough of both.
    """
    group = groups_of(validation[:, 0], GROUPS)
    wide = int(group.max()) + 1
    n, score, hit = (np.bincount(group, each, wide) for each in (counts, score_sums, hit_sums))
    vn, vscore, vhit = (np.bincount(group, each, wide) for each in validation.T)
    ok = (n >= LEAST) & (vn >= LEAST)
    if not ok.any():
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = hit / n - score / n - (vhit / vn - vscore / vn)
        share = (hit + vhit) / (n + vn)
        # No label in either is no certainty: half a one is added to both sides.
        share = np.clip(share, 0.5 / (n + vn), 1 - 0.5 / (n + vn))
        squares = gap**2 / (share * (1 - share) * (1 / n + 1 / vn)) / max(1.0, dispersion)
        expected = np.clip(score / n + vhit / vn - vscore / vn, 0.0, 1.0)
    told = []
    for each in np.flatnonzero(ok).tolist():
        places = np.flatnonzero(group == each)
        low, high = lower_bound(int(places[0])), lower_bound(int(places[-1]) + 1)
        high = 1.0 if each == wide - 1 else high
        told.append(
            Group(low, high, int(n[each]), float(expected[each]), float(hit[each] / n[each]))
        )
    return CalibrationShift(
        value=float((n[ok] * np.abs(gap[ok])).sum() / n[ok].sum()),
        chance=float(chi2.sf(squares[ok].sum(), int(ok.sum()))),
        n=int(n[ok].sum()),
        groups=tuple(told),
    )


@dataclass(frozen=True)
class EstimatedLoss:
    """The mean log loss that the scores let expect, its standard error, and of how many events."""

    value: float
    error: float
    n: int

    def chance(self, before: float, rows: float, dispersion: float) -> float:
        """Return how often the estimate would be so far above ``before``, a mean over ``rows``."""
        if self.error <= 0 or rows <= 0:
            return 1.0
        error = self.error * float(np.sqrt((1 + self.n / rows) * max(1.0, dispersion)))
        return float(norm.sf((self.value - before) / error))


def estimated_loss(counts: Floats, sums: Floats, validation: Floats | None) -> EstimatedLoss | None:
    """Return what loss is to be expected of answers whose labels are not known.

    An answer's loss is expected over the labels that its probability lets expect, after that was
    put right by what validation showed at such scores: confidence-based performance estimation
    (Garg et al. 2022 for accuracy; NannyML's CBPE). It holds as long as P(label | score) does:
    it sees that events have become harder, and not that the world contradicts the model.

    Args:
        counts: answers per cell, (CELLS,).
        sums: (CELLS, 3) of what :func:`serving.concept.score_sums.expected_losses` says, its two
            parts and the square of the first.
        validation: per cell n, sum of scores, hits, (CELLS, 3), or None: scores are taken as right.
    """
    entropies, gains, squares = sums.T
    n = counts.sum()
    if n == 0:
        return None
    off = np.zeros(len(counts))
    if validation is not None and validation[:, 0].sum() >= LEAST:
        group: Ints = groups_of(validation[:, 0], GROUPS)
        rows, scores, right = (np.bincount(group, each) for each in validation.T)
        off = np.where(rows >= LEAST, (right - scores) / np.maximum(rows, 1), 0.0)[group]
    value = float((entropies + off * gains).sum() / n)
    mean = entropies.sum() / n
    return EstimatedLoss(
        value=value,
        error=float(np.sqrt(max(0.0, squares.sum() / n - mean**2) / n)),
        n=int(n),
    )
