"""What the figures of concept drift say, as findings. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from serving.alerting.finding import LABELS, Finding
from serving.concept.calibration import calibration_shift, estimated_loss
from serving.concept.course import Moments, Taken
from serving.concept.delay import LabelDelay, delay_quantile
from serving.concept.names import (
    CALIBRATION_SHIFT,
    ESTIMATED_LOG_LOSS,
    LABEL_DELAY_MEDIAN,
    LABEL_DELAY_P90,
    LABEL_OVERDUE,
    LOG_LOSS_CHANGE,
)
from serving.monitoring.judging import LiveModel
from serving.spec import ConceptDrift
from streams.wire import Metric, Onset, ShiftedBin, Window
from training.networks.tasks import Binary, MultiClass, Task

MATTERING_SHIFT = 0.05
"""From here on a calibration shift matters."""
FEWEST = 30
"""Losses that came after an alarm are a test of their own from so many on."""
OVER = 0.5
"""A change is over when so little of what would matter is left."""
USUAL = 50
"""Labels that an estimate of the usual delay needs."""

Floats = NDArray[np.float64]


def threshold_of(loss: float, ratio: float, task: Task) -> float:
    """Return the loss that is ``ratio`` times as bad: a density's log loss may be below 0, and has
    no ratio."""
    return loss * ratio if isinstance(task, Binary | MultiClass) else loss + math.log(ratio)


def change_finding(
    taken: Taken, monitor: ConceptDrift, task: Task, window: Window, live: LiveModel
) -> Finding:
    """Return the loss since the change, or of the window where none stands, against that before.

    What matters is measured from the higher of that before and that in validation: after an easy
    time, holidays say, a model is as good again as it was found to be, and that is no harm.

    Its chance is the detector's when the alarm comes; later that of the losses which came after
    the alarm, and so had no part in where the change was put, being as high as they are.
    """
    before, recent = taken.before.mean, taken.recent.mean
    base = max(before, live.validation.get("log_loss", before))
    threshold = threshold_of(base, monitor.loss_ratio, task)
    excess = (recent - base) / max(threshold - base, 1e-12)
    chance = taken.chance
    if taken.change is not None and not taken.begun and taken.fresh.n >= FEWEST:
        chance = rise_chance(taken.before, taken.fresh, taken.dispersion)
    change = taken.change
    cause = (
        f"log loss of model {live.version} is {recent:.3g} since a change in its matched labels, "
        f"{before:.3g} before it, n={taken.recent.n:,} and {taken.before.n:,}"
    )
    return Finding(
        kind="concept_drift",
        metric=Metric(
            LOG_LOSS_CHANGE, None, recent, threshold, taken.recent.n, window, live.version,
            effect=recent - before, by="label",
        ),
        excess=excess,
        chance=chance,
        cause=cause if excess >= 1 else None,
        onset=None
        if change is None
        else Onset(change.time_ms, change.partition, change.offset, LABELS),
        impact=recent - before if change is not None else None,
    )  # fmt: skip


def resolved(finding: Finding) -> bool:
    """Return whether the loss is about what it was before the change, or in validation."""
    return finding.excess is not None and finding.excess < OVER


def rise_chance(before: Moments, after: Moments, dispersion: float) -> float:
    """Return how often the mean of independent losses would have risen as much: Welch's z, with
    the variance taken ``dispersion`` times."""
    error = math.sqrt(
        dispersion * (before.variance / max(1, before.n) + after.variance / max(1, after.n))
    )
    if error == 0:
        return 1.0 if after.mean <= before.mean else 0.0
    return float(norm.sf((after.mean - before.mean) / error))


def calibration_findings(
    counts: Floats,
    sums: Floats,
    validation: Floats,
    dispersion: float,
    window: Window,
    version: int,
) -> Iterator[Finding]:
    """Yield the calibration shift of the window's labels; ``sums`` are scores and hits."""
    shift = calibration_shift(counts, sums[:, 0], sums[:, 1], validation, dispersion)
    if shift is None:
        return
    excess = shift.value / MATTERING_SHIFT
    worst = sorted(shift.groups, key=lambda group: -group.n * abs(group.observed - group.expected))
    bins = tuple(
        ShiftedBin(f"{group.low:.3g} to {group.high:.3g}", group.expected, group.observed)
        for group in worst[:3]
    )
    cause = (
        f"scores of model {version} are {shift.value:.3g} off what they meant in validation: of "
        f"those from {bins[0].bin}, {bins[0].observed:.3g} turned out where {bins[0].expected:.3g} "
        f"was to be expected (n={shift.n:,})"
    )
    yield Finding(
        kind="concept_drift",
        metric=Metric(
            CALIBRATION_SHIFT, None, shift.value, MATTERING_SHIFT, shift.n, window, version,
            effect=shift.value, by="label",
        ),
        excess=excess,
        chance=shift.chance,
        cause=cause if excess >= 1 else None,
        bins=bins,
    )  # fmt: skip


def estimate_findings(
    counts: Floats,
    sums: Floats,
    live: LiveModel,
    monitor: ConceptDrift,
    dispersion: float,
    window: Window,
    whole: bool,
) -> Iterator[Finding]:
    """Yield the label-free estimate of the window's events; ``sums`` are of the three columns that
    the watch adds: entropy, gain, entropy². It alarms only where the model has answered for the
    ``whole`` window: the first weekend of a model is no measure of it."""
    validation = None if live.reference is None else live.reference.calibration
    estimate = estimated_loss(counts, sums, validation)
    if estimate is None:
        return
    known = live.validation.get("log_loss")
    threshold = None if known is None else known * monitor.loss_ratio
    rows = 0.0 if validation is None else float(validation[:, 0].sum())
    excess = chance = effect = impact = None
    cause = None
    judged = whole and validation is not None
    if judged and known is not None and threshold is not None and known > 0:
        excess = (estimate.value - known) / (threshold - known)
        chance = estimate.chance(known, rows, dispersion)
        effect = impact = estimate.value - known
        if excess >= 1:
            cause = (
                f"model {live.version} is estimated to lose {estimate.value:.3g} by its scores "
                f"alone, above {threshold:.3g} ({monitor.loss_ratio:g} times the {known:.3g} in "
                f"validation), n={estimate.n:,}; labels are still to come"
            )
    half = 1.96 * estimate.error * math.sqrt(max(1.0, dispersion))
    yield Finding(
        kind="performance",
        metric=Metric(
            ESTIMATED_LOG_LOSS, None, estimate.value, threshold, estimate.n, window, live.version,
            effect=effect, low=estimate.value - half, high=estimate.value + half,
        ),
        excess=excess,
        chance=chance,
        cause=cause,
        impact=impact,
    )  # fmt: skip


def delay_findings(
    delay: LabelDelay, monitor: ConceptDrift, window: Window, version: int
) -> Iterator[Finding]:
    """Yield how long labels take, in seconds, and the share that is overdue. No tests: the figures
    decide alone, where there are labels enough."""
    now, past = delay.delays(window.end_ms)
    n = int(now.sum())
    enough = int(past.sum()) >= USUAL and monitor.label_delay is not None
    if n >= FEWEST:
        median, p90 = delay_quantile(now, 0.5), delay_quantile(now, 0.9)
        excess = cause = threshold = None
        if enough and monitor.label_delay is not None:
            usual = delay_quantile(past, 0.5)
            threshold = usual * monitor.label_delay
            excess = median / threshold
            if excess >= 1:
                cause = (
                    f"labels take {median:,.0f} s in the median, {median / usual:.3g} times the "
                    f"usual {usual:,.0f} s (n={n:,})"
                )
        yield Finding(
            "health",
            Metric(LABEL_DELAY_MEDIAN, None, median, threshold, n, window, version, by="label"),
            excess=excess,
            cause=cause,
        )
        tail = Metric(LABEL_DELAY_P90, None, p90, None, n, window, version, by="label")
        yield Finding("health", tail)
    if int(past.sum()) < USUAL:
        return
    late_s = delay_quantile(past, 0.9)
    found = delay.unlabelled(window.end_ms, late_s)
    if found is None:
        return
    share, answers, usual_share = found
    threshold = excess = cause = None
    if usual_share is not None and answers >= monitor.minimum and usual_share < 1:
        threshold = usual_share + (1 - usual_share) / 2
        excess = share / threshold
        if excess >= 1:
            cause = (
                f"{share:.0%} of {answers:,} predictions older than {late_s:,.0f} s, by which "
                f"nine of ten labels used to be there, have none; usual is {usual_share:.0%}"
            )
    metric = Metric(LABEL_OVERDUE, None, share, threshold, answers, window, version)
    yield Finding("health", metric, excess=excess, cause=cause)
