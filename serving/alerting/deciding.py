"""Which figures of a closing are out of bounds: all of them judged together. Pure.

A figure is out of bounds where its size matters (``excess`` is 1 or more) *and* chance is ruled
out: its p-value, adjusted for all figures of the closing by Benjamini and Hochberg ("Controlling
the false discovery rate", 1995), is at most the closing's level. Where nothing has changed, that
gives any of them with at most the level's probability.

The level follows from the false alarms that a week may have: an alert is confirmed only by a
closing at which a figure is out of bounds, so there are at most as many as such closings, however
the sliding windows overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.alerting.finding import Finding

WEEK_MS = 7 * 86_400_000
HIGHEST_LEVEL = 0.05
"""However many false alarms are allowed, no test is easier than this."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """A figure, its metric with the adjusted ``p_value``, and whether it is out of bounds."""

    finding: Finding
    shows: bool


def level_per_closing(false_alarms_per_week: float, step_ms: int) -> float:
    """Return how probable a false alarm may be at one closing; one comes every ``step_ms``.

    >>> round(level_per_closing(0.1, 86_400_000), 4)
    0.0143
    """
    return min(HIGHEST_LEVEL, false_alarms_per_week * step_ms / WEEK_MS)


def adjusted(chances: Sequence[float] | Floats) -> Floats:
    """Return p-values adjusted by Benjamini and Hochberg, in the order given, shape (n,).

    >>> adjusted([0.01, 0.5, 0.02]).round(3).tolist()
    [0.03, 0.5, 0.03]
    """
    p = np.asarray(chances, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    by_rank = p[order] * len(p) / np.arange(1, len(p) + 1)
    result = np.empty(len(p))
    result[order] = np.minimum.accumulate(by_rank[::-1])[::-1]
    return np.minimum(result, 1.0)


def judge_together(findings: Sequence[Finding], level: float) -> list[Judged]:
    """Return the findings of one closing, in order, judged at ``level``.

    Figures that never alarm are a family of their own: their p-values are adjusted among
    themselves, and cost the others nothing.
    """
    alarming = _family([finding for finding in findings if finding.excess is not None])
    told_only = _family([finding for finding in findings if finding.excess is None])
    families = {True: iter(alarming), False: iter(told_only)}
    return [
        _judged(finding, next(families[finding.excess is not None]), level) for finding in findings
    ]


def _family(findings: Sequence[Finding]) -> list[float | None]:
    """Return each finding's adjusted p-value; None where it is no test."""
    tests = iter(adjusted([f.chance for f in findings if f.chance is not None]).tolist())
    return [None if finding.chance is None else next(tests) for finding in findings]


def _judged(finding: Finding, p_value: float | None, level: float) -> Judged:
    shows = finding.excess is not None and finding.excess >= 1
    if p_value is None:
        return Judged(finding, shows)
    metric = msgspec.structs.replace(finding.metric, p_value=p_value)
    return Judged(replace(finding, metric=metric), shows and p_value <= level)
