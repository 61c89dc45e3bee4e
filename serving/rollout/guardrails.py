"""What a version must keep to beside its metric. Each guardrail trips beyond chance only.

=============  ================================================================================
failures       the share of answers that can't be scored, above the live one's by the limit: a
               likelihood ratio that holds at all times (:func:`sample_ratio.log_excess`)
latency_ms,    the share of answers slower than the limit, or than ratio × the live version's
latency_ratio  p99, above 1 % and above twice the live version's share: the same
psi            the PSI above the limit plus what chance adds in the mean, (B − 1)(1/n + 1/m), and
               above what it exceeds with probability α (:mod:`serving.drift.psi`)
calibration    the confidence sequence of mean score − mean label lies further from 0 than the
               live version's own gap and the limit
fairness       two values of a group whose confidence sequences lie further apart than the live
               version's widest gap and the limit
=============  ================================================================================

The arms of a canary answer different entities, whose scores, labels and losses differ by
themselves, and much where they are few. So what looks at scores and labels is read from the answers
of both versions to the same events; only where there are none from the arms, and the PSI then not
at all. Failures and latencies are read from the arms. The errors of groups are those of independent
events, widened by the design effect of all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from serving.drift.psi import critical_value, psi
from serving.rollout.declared import Guardrails
from serving.rollout.sample_ratio import log_excess
from serving.rollout.statistics import Estimate, figure, sequence
from serving.rollout.sums import Arm, Comparison, latency_bins, latency_limit
from serving.rollout.trial import Trial

ALPHA = 0.001
"""Probability at most of a false alarm of each guardrail."""

LEAST = 100
"""Answers of each side before distributions and gaps are looked at."""

LEAST_LATENCIES = 1_000
"""Answers of each side before latencies are: the first batches of a version warm up."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A guardrail's figure beside its limit."""

    name: str
    value: float
    limit: float
    tripped: bool

    def to_json(self) -> dict[str, float | bool | None]:
        """Return it for the evidence of a verdict."""
        return {"value": figure(self.value), "limit": figure(self.limit), "tripped": self.tripped}

    def __str__(self) -> str:
        """Return "calibration 0.12 beyond 0.05"."""
        return f"{self.name} {self.value:.4g} beyond {self.limit:.4g}"


def readings(
    rails: Guardrails, trial: Trial, names: Sequence[tuple[str, str]], tuned: float
) -> list[Reading]:
    """Return what the guardrails show of a version.

    Args:
        rails: the limits.
        trial: what is known of the version.
        names: the (field, value) of each code of a group.
        tuned: see :func:`serving.rollout.statistics.multiplier`.
    """
    in_canary = trial.stage == "canary"
    served = trial.arms if in_canary else trial.pairs
    result = [_failures(served.challenger, served.live, rails.failures)]
    if in_canary and _least(served) >= LEAST_LATENCIES:
        result.append(_latency_ms(served, rails.latency_ms))
        result.append(_latency_ratio(served, rails.latency_ratio))
    has_pairs = _least(trial.pairs) >= LEAST
    compared = trial.pairs if has_pairs else trial.arms
    if _least(compared) >= LEAST:
        if has_pairs:
            result.append(_psi(compared, rails.psi))
        result.append(_calibration(compared, rails.calibration, tuned))
        result += _fairness(compared, rails.fairness, names, tuned)
    return [reading for reading in result if reading is not None]


def _least(found: Comparison) -> int:
    return min(found.challenger.n, found.live.n)


def _failures(challenger: Arm, live: Arm, limit: float | None) -> Reading | None:
    n = challenger.n + challenger.failures
    if limit is None or not n:
        return None
    others = live.n + live.failures
    allowed = limit + (live.failures / others if others else 0.0)
    share = challenger.failures / n
    tripped = allowed < 1 and log_excess(challenger.failures, n, allowed) > -math.log(ALPHA)
    return Reading("failures", share, allowed, tripped)


def _latency_ms(found: Comparison, limit: float | None) -> Reading | None:
    return None if limit is None else _slow("latency_ms", found, limit)


def _latency_ratio(found: Comparison, ratio: float | None) -> Reading | None:
    p99 = _p99(found.live)
    if ratio is None or p99 is None:
        return None
    return _slow("latency_ratio", found, p99 * ratio)


def _slow(name: str, found: Comparison, limit_ms: float) -> Reading | None:
    p99 = _p99(found.challenger)
    if p99 is None:
        return None
    (slow, n), (others, of) = (_slower(arm, limit_ms) for arm in (found.challenger, found.live))
    # What slows both down, a pause or a backlog, comes in bursts and is not the version's fault.
    allowed = max(0.01, 2 * others / of) if of else 0.01
    tripped = allowed < 1 and log_excess(slow, n, allowed) > -math.log(ALPHA)
    return Reading(name, p99, limit_ms, tripped)


def _slower(arm: Arm, limit_ms: float) -> tuple[int, int]:
    """Return how many answers were slower than the limit, and of how many."""
    # In favour of the version: a bin that the limit falls into counts as fast.
    first = int(latency_bins(np.array([limit_ms]))[0]) + 1
    return int(arm.latency[first:].sum()), int(arm.latency.sum())


def _p99(arm: Arm) -> float | None:
    """Return the upper end of the bin that holds the p99; None where it is not known."""
    total = int(arm.latency.sum())
    if not total:
        return None
    number = int(np.searchsorted(np.cumsum(arm.latency), 0.99 * total))
    return latency_limit(number) if number < len(arm.latency) - 1 else None


def _psi(found: Comparison, limit: float | None) -> Reading | None:
    expected, observed = found.live.scores, found.challenger.scores
    n, m = int(expected.sum()), int(observed.sum())
    bins = int(np.count_nonzero(expected + observed))
    if limit is None or bins < 2 or n < LEAST or m < LEAST:
        return None
    by_chance = (bins - 1) * (1 / n + 1 / m)
    allowed = max(limit + by_chance, critical_value(n, m, bins, ALPHA))
    value = psi(expected, observed)
    return Reading("psi", value, allowed, value > allowed)


def _calibration(found: Comparison, limit: float | None, tuned: float) -> Reading | None:
    if limit is None:
        return None
    residual = found.challenger.residual()
    bounds = sequence(residual, tuned, ALPHA)
    beyond = max(bounds.low, -bounds.high)  # how far from 0 the gap is at least
    allowed = limit + abs(found.live.residual().mean)
    return Reading("calibration", abs(residual.mean), allowed, beyond > allowed)


def _fairness(
    found: Comparison, limit: float | None, names: Sequence[tuple[str, str]], tuned: float
) -> list[Reading]:
    if limit is None:
        return []
    result = []
    for field in dict.fromkeys(name for name, _ in names):
        codes = [i for i, name in enumerate(names) if name[0] == field]
        mine = _by_group(found.challenger, codes)
        other = _by_group(found.live, codes)
        both = [code for code in codes if code in mine and code in other]
        if len(both) < 2:
            continue
        bounds = [sequence(mine[code], tuned, ALPHA / len(both)) for code in both]
        means = [mine[code].mean for code in both]
        lives = [other[code].mean for code in both]
        allowed = limit + max(lives) - min(lives)
        beyond = max(b.low for b in bounds) - min(b.high for b in bounds)
        gap = max(means) - min(means)
        result.append(Reading(f"fairness of {field}", gap, allowed, beyond > allowed))
    return result


def _by_group(arm: Arm, codes: Sequence[int]) -> dict[int, Estimate]:
    """Return code → the mean loss of the group's events, where there are enough."""
    whole = arm.loss()
    wider = math.sqrt(max(1.0, whole.design_effect))
    result = {}
    for code in codes:
        n, total, squares = arm.groups[:, code].tolist()
        if n < LEAST:
            continue
        mean = total / n
        variance = max(0.0, squares - n * mean**2) / (n - 1)
        found = Estimate(mean, math.sqrt(variance / n), int(n), n, n)
        result[code] = replace(
            found,
            error=found.error * wider,
            effective=n / wider**2,
            clusters=min(n, whole.clusters),
        )
    return result
