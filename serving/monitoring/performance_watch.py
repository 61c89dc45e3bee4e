"""The live version's scores on arrived labels, as a watch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from serving.alerting.finding import Finding
from serving.monitoring.groups import Groups
from serving.monitoring.judging import LiveModel
from serving.monitoring.matching import Matches
from serving.monitoring.told import can_be_scored
from serving.monitoring.watch import Watch
from serving.monitoring.windows import StepSums
from serving.performance.figures import Figures, contributions, figures, names
from serving.spec import Performance
from streams.durations import seconds
from streams.wire import Metric, Window
from training.networks.tasks import Binary, MultiClass, Task


class PerformanceWatch(Watch):
    """Log loss, error, hits and calibration of the live version, by the arrival of labels."""

    def __init__(self, monitor: Performance, task: Task, step_ms: int, groups: Groups) -> None:
        self._monitor, self._task, self._groups = monitor, task, groups
        self._sums = StepSums(step_ms)

    def add_matches(self, matches: Matches) -> None:
        """Take predictions whose labels have come."""
        matches = matches.only(can_be_scored(matches.scores))
        if not len(matches):
            return
        rows = contributions(matches.scores, matches.labels, self._task)
        for version in np.unique(matches.versions).tolist():
            chosen = np.flatnonzero(matches.versions == version)
            self._sums.add(f"{version}", matches.label_times_ms[chosen], rows[chosen])

    def close(self, live: LiveModel, end_ms: int) -> list[Finding]:
        """Return the live version's figures."""
        window = Window(end_ms - seconds(self._monitor.window) * 1000, end_ms)
        total = self._sums.window(f"{live.version}", window.start_ms, end_ms)
        found = None if total is None else figures(total)
        if found is None or found.n < self._monitor.minimum:
            return []
        called = names(self._task)
        return [
            self._finding(live, found, attribute, name, window)
            for attribute, name in called.items()
        ]

    def forget(self, before_ms: int) -> None:
        """Forget old steps."""
        self._sums.drop_before(before_ms)

    def snapshot(self) -> tuple[Any, Mapping[str, NDArray[Any]]]:
        """Return (JSON, arrays)."""
        return self._sums.to_json(), {}

    def load(self, content: Any, _arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over a snapshot."""
        self._sums = StepSums.from_json(self._sums.step_ms, content)

    def _finding(
        self, live: LiveModel, found: Figures, attribute: str, name: str, window: Window
    ) -> Finding:
        value = float(getattr(found, attribute))
        monitor, threshold = self._monitor, None
        excess = chance = cause = impact = None
        if attribute == "log_loss" and live.version and "log_loss" in live.validation:
            usual, ratio = live.validation["log_loss"], monitor.log_loss_ratio
            of_density = not isinstance(self._task, Binary | MultiClass)
            threshold = usual + float(np.log(ratio)) if of_density else usual * ratio
            impact = value - usual
            excess = impact / (threshold - usual)
            chance = float(norm.sf(impact / found.log_loss_error)) if found.log_loss_error else 0.0
            cause = (
                f"log loss of model {live.version} is {value:.3g}, above {threshold:.3g}; it was "
                f"{usual:.3g} in validation (n={found.n:,})"
            )
        elif attribute == "calibration_gap" and live.version:
            threshold = monitor.calibration_gap
            excess = value / threshold
            error = found.calibration_error
            chance = float(2 * norm.sf(value / error)) if error else 0.0
            cause = (
                f"model {live.version} says {found.mean_score:.3g} on average, "
                f"{found.mean_label:.3g} turned out: a gap of {value:.3g}, above {threshold:g} "
                f"(n={found.n:,})"
            )
        metric = Metric(name, None, value, threshold, found.n, window, live.version, by="label")
        matters = excess is not None and excess >= 1
        return Finding("performance", metric, excess, chance, cause if matters else None,
                       impact=impact if matters else None)  # fmt: skip
