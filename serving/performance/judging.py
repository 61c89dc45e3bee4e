"""Which figures of the live version matter, and how probable they are by chance. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from msgspec.structs import replace as changed
from numpy.typing import NDArray

from serving.alerting.finding import Finding
from serving.monitoring.judging import LiveModel
from serving.performance.figures import UNIT
from serving.performance.intervals import Error
from serving.performance.telling import Told
from serving.spec import Performance
from streams.wire import Onset
from training.networks.tasks import Binary, MultiClass, Regression, Task

Ints = NDArray[np.int64]

_LOSS = 4  # column of the moments


def judged(
    findings: Sequence[Finding],
    found: Told,
    live: LiveModel,
    monitor: Performance,
    task: Task,
    starts: Ints,
    steps: Ints,
) -> list[Finding]:
    """Return the findings with log loss and calibration gap compared with what is allowed.

    ``starts`` (m,) and ``steps`` (m, K) are the window's steps. The stated prior, version 0, is
    compared with nothing.
    """
    by_metric = {finding.metric.metric: finding for finding in findings}
    if live.version and "log_loss" in live.validation:
        by_metric["log_loss"] = _log_loss(
            by_metric["log_loss"], found, live, monitor, task, starts, steps
        )
    if live.version:
        by_metric["calibration_gap"] = _calibration(
            by_metric["calibration_gap"], found, live, monitor, task
        )
    return list(by_metric.values())


def _log_loss(
    finding: Finding,
    found: Told,
    live: LiveModel,
    monitor: Performance,
    task: Task,
    starts: Ints,
    steps: Ints,
) -> Finding:
    """Compare log loss with the model's own in validation, times the ratio allowed.

    That of a density may be below 0, and has no ratio: there what happened must have got, in the
    geometric mean, a ratio times smaller density than in validation. Excess is the growth in units
    of the growth allowed: a model as good as in validation has 0.
    """
    value, usual = found.figures.log_loss, live.validation["log_loss"]
    classes = isinstance(task, Binary | MultiClass)
    ratio = monitor.log_loss_ratio
    threshold = usual * ratio if classes else usual + math.log(ratio)
    grown = value - usual
    excess = grown / (threshold - usual) if threshold > usual else math.inf * (grown > 0)
    metric = changed(finding.metric, threshold=threshold, effect=grown)
    error = _with_validation(found, live)
    chance = error.chance(grown)
    if not excess >= 1:
        return replace(finding, metric=metric, excess=excess, chance=chance, impact=grown)
    relation = f"{ratio:.3g} times the" if classes else f"{threshold - usual:.3g} more than the"
    return replace(
        finding,
        metric=metric,
        excess=excess,
        chance=chance,
        cause=(
            f"log loss of model {live.version} is {value:.3g}, above {threshold:.3g} ({relation} "
            f"{usual:.3g} in validation), where chance gives ± {error.half():.2g} at "
            f"n={found.figures.n:,}"
        ),
        onset=Onset(_began(starts, steps, (usual + value) / 2)),
        impact=grown,
    )


def _with_validation(found: Told, live: LiveModel) -> Error:
    """Return the error of the difference: the validation was a sample too, and its rows are taken
    to vary as the window's do."""
    n_validation = live.validation.get("n_validation", 0.0)
    if not n_validation > 0:
        return found.loss_error
    rows = found.figures
    of_validation = rows.log_loss_error * math.sqrt(rows.n / n_validation)
    return replace(found.loss_error, size=math.hypot(found.loss_error.size, of_validation))


def _calibration(
    finding: Finding, found: Told, live: LiveModel, monitor: Performance, task: Task
) -> Finding:
    """Compare |mean score − mean label| with the gap allowed; by chance of a calibrated model."""
    figures, allowed = found.figures, monitor.calibration_gap
    value = figures.calibration_gap
    metric = changed(finding.metric, threshold=allowed, effect=value)
    chance = min(1.0, 2 * found.gap_error.chance(value))
    excess = value / allowed if allowed > 0 else math.inf
    if not excess >= 1:
        return replace(finding, metric=metric, excess=excess, chance=chance)
    told = (
        f"{figures.mean_label:.3g} of what turned out lies above what model {live.version} said, "
        f"not a half"
        if isinstance(task, Regression)
        else f"model {live.version} says {figures.mean_score:.3g} on average, "
        f"{figures.mean_label:.3g} turned out"
    )
    return replace(
        finding,
        metric=metric,
        excess=excess,
        chance=chance,
        cause=f"{told}: a gap of {value:.3g}, above {allowed:g}, where chance gives ± "
        f"{found.gap_error.half():.2g} at n={figures.n:,}",
    )


def _began(starts: Ints, steps: Ints, middle: float) -> int:
    """Return the start of the step of arrival from which on the loss lies above ``middle`` most:
    where Σ (loss − middle) over the steps from there to the end is largest."""
    above = steps[:, _LOSS] / UNIT - middle * steps[:, 0]
    return int(starts[int(np.argmax(np.cumsum(above[::-1])[::-1]))])
