"""What a closed window says: figures, and which of them are alarming. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from serving.monitoring.drift import Drift, compare
from serving.monitoring.windows import StepSums
from serving.performance.figures import (
    Figures,
    Verdict,
    figures,
    judge_calibration,
    judge_log_loss,
    names,
)
from serving.spec import DataDrift, Performance
from streams.durations import seconds
from streams.wire import Metric, Window
from training.networks.tasks import Binary, MultiClass, Regression, Task

GROUP_MINIMUM = 30
"""Fewer matched labels of a group than this give no figure for it."""

_BINARY = Binary()
Counts = NDArray[np.int64]
Kind = Literal["data_drift", "performance"]


@dataclass(frozen=True)
class LiveModel:
    """What a monitor compares with: training's counts per bin and the validation figures.

    Version 0, the stated prior, has neither.
    """

    version: int = 0
    expected: Mapping[str, Counts] = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """A figure of a window. ``cause`` says in words why it is alarming, or is None.

    ``calm`` says that the figure has come back below its threshold.
    """

    kind: Kind
    metric: Metric
    cause: str | None = None
    calm: bool = False

    @property
    def key(self) -> str:
        """What an excursion is about: the same for the same figure of later windows."""
        m = self.metric
        length_ms = m.window.end_ms - m.window.start_ms
        return f"{self.kind}/{m.metric}/{m.feature or ''}/{length_ms}"


def judge_drift(
    monitor: DataDrift, live: LiveModel, counts: StepSums, end_ms: int
) -> list[Finding]:
    """Return the PSI of each feature over the window that ends at ``end_ms``.

    ``counts`` holds the features' counts in the live model's bins; nothing is returned where no
    model is live or the window has fewer than ``monitor.minimum`` events.
    """
    window = _window(monitor.window, end_ms)
    wanted = live.expected if monitor.features is None else monitor.features
    observed = {name: counts.window(name, window.start_ms, end_ms) for name in wanted}
    enough = {
        name: found
        for name, found in observed.items()
        if found is not None and name in live.expected and found.sum() >= monitor.minimum
    }
    return [
        Finding(
            kind="data_drift",
            metric=Metric(
                metric="psi",
                feature=drift.feature,
                value=drift.psi,
                threshold=monitor.threshold,
                n=drift.n,
                window=window,
                model_version=live.version,
            ),
            cause=_drift_cause(drift, monitor.threshold),
            calm=drift.psi < monitor.threshold,
        )
        for drift in compare(live.expected, enough)
    ]


def judge_performance(
    monitor: Performance, live: LiveModel, sums: StepSums, end_ms: int, task: Task = _BINARY
) -> list[Finding]:
    """Return the live version's scores on the labels that arrived in the window, and per group.

    Nothing is returned where fewer than ``monitor.minimum`` labels were matched.
    """
    window = _window(monitor.window, end_ms)
    found = _figures(sums, performance_key(live.version), window)
    if found is None or found.n < monitor.minimum:
        return []
    verdicts = []
    if live.version and "log_loss" in live.validation:
        loss, ratio = live.validation["log_loss"], monitor.log_loss_ratio
        verdicts.append(judge_log_loss(found, loss, ratio, task=task))
    if live.version:
        verdicts.append(judge_calibration(found, monitor.calibration_gap))
    by_metric = {verdict.metric: verdict for verdict in verdicts}
    results = []
    for attribute, name in names(task).items():
        verdict = by_metric.get(name)
        threshold = verdict.threshold if verdict else None
        value = float(getattr(found, attribute))
        metric = Metric(name, None, value, threshold, found.n, window, live.version)
        if verdict is None:
            results.append(Finding("performance", metric))
        else:
            cause = _performance_cause(verdict, found, live, task)
            results.append(Finding("performance", metric, cause, value < verdict.threshold))
    return results + _group_figures(sums, window, live.version, task)


def performance_key(version: int, group: str | None = None) -> str:
    """Return the key of a version's sums, of all events or of a group ("field=value")."""
    return f"{version}" if group is None else f"{version}|{group}"


def _group_figures(sums: StepSums, window: Window, version: int, task: Task) -> list[Finding]:
    prefix = performance_key(version, "")
    results = []
    for key in sums.names():
        found = _figures(sums, key, window) if key.startswith(prefix) else None
        if found is None or found.n < GROUP_MINIMUM:
            continue
        for attribute in ("brier", "calibration_gap"):
            metric = Metric(
                metric=f"{names(task)[attribute]}[{key.removeprefix(prefix)}]",
                feature=None,
                value=float(getattr(found, attribute)),
                threshold=None,
                n=found.n,
                window=window,
                model_version=version,
            )
            results.append(Finding("performance", metric))
    return results


def _figures(sums: StepSums, key: str, window: Window) -> Figures | None:
    total = sums.window(key, window.start_ms, window.end_ms)
    return None if total is None else figures(total)


def _window(length: str, end_ms: int) -> Window:
    return Window(end_ms - seconds(length) * 1000, end_ms)


def _drift_cause(drift: Drift, threshold: float) -> str | None:
    if not drift.alarming(threshold):
        return None
    return (
        f"PSI of {drift.feature} is {drift.psi:.3g}, above {threshold:g} and above "
        f"{drift.critical:.3g} that chance gives at n={drift.n:,}"
    )


def _performance_cause(verdict: Verdict, found: Figures, live: LiveModel, task: Task) -> str | None:
    if not verdict.alarming:
        return None
    if verdict.metric == "log_loss":
        validation = live.validation["log_loss"]
        relation = (
            f"{verdict.threshold / validation:.3g} times the"
            if isinstance(task, Binary | MultiClass)
            else f"{verdict.threshold - validation:.3g} more than the"
        )
        return (
            f"log loss of model {live.version} is {verdict.value:.3g}, above "
            f"{verdict.threshold:.3g} ({relation} {validation:.3g} in validation) and above "
            f"{verdict.critical:.3g} that chance gives at n={found.n:,}"
        )
    if isinstance(task, Regression):
        return (
            f"{found.mean_label:.3g} of what turned out lies above what model {live.version} said, "
            f"not a half: a gap of {verdict.value:.3g}, above {verdict.threshold:g} and above "
            f"{verdict.critical:.2g} that chance gives at n={found.n:,}"
        )
    return (
        f"model {live.version} says {found.mean_score:.3g} on average, {found.mean_label:.3g} "
        f"turned out: a gap of {verdict.value:.3g}, above {verdict.threshold:g} and above "
        f"{verdict.critical:.2g} that chance gives at n={found.n:,}"
    )


class Excursions:
    """Which figures stand in alarm, so that each is told once and not at every step.

    A figure is told again only after it has come back below its threshold, whichever model is
    live by then: a new model rarely ends a drift at once, and nobody wants to hear it anew.
    """

    def __init__(self, standing: Iterable[str] = ()) -> None:
        self.standing: set[str] = set(standing)

    def update(self, findings: Sequence[Finding]) -> list[Finding]:
        """Return the findings that begin an excursion, in order."""
        begun = []
        for finding in findings:
            if finding.calm:
                self.standing.discard(finding.key)
            if finding.cause is not None and finding.key not in self.standing:
                self.standing.add(finding.key)
                begun.append(finding)
        return begun
