"""Data drift as a watch: each feature's window against the live model's training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.records import FeatureRows
from serving.alerting.finding import Finding
from serving.alerting.onset import first_shifted
from serving.monitoring.drift import compare, shifted_bins
from serving.monitoring.judging import LiveModel
from serving.monitoring.watch import Watch
from serving.monitoring.windows import StepSums, step_starts
from serving.spec import DataDrift
from streams.durations import seconds
from streams.wire import Metric, Onset, Severity, Window
from training.reference import Reference

CRITICAL = 4.0
"""From this excess on, four times the threshold, an alert is critical."""


@dataclass(frozen=True)
class Part:
    """The model inputs of some rows; satisfies :class:`training.dataset.prepared.Columns`."""

    numeric: NDArray[np.float64]
    categories: list[list[str]]


class DataDriftWatch(Watch):
    """Counts features in the live model's bins, per step, and compares windows."""

    def __init__(self, monitor: DataDrift, step_ms: int) -> None:
        self._monitor = monitor
        self._length_ms = seconds(monitor.window) * 1000
        self.counts = StepSums(step_ms)
        self._reference: Reference | None = None

    def use(self, live: LiveModel) -> None:
        """Count in another version's bins from now on."""
        self._reference = live.reference

    def forget_features(self) -> None:
        """Forget all counts."""
        self.counts.clear()

    def add_features(self, rows: FeatureRows, fresh: NDArray[np.bool_]) -> None:
        """Count rows in the reference's bins, per step."""
        if self._reference is None:
            return
        starts = step_starts(rows.event_times_ms, self.counts.step_ms)
        for start in np.unique(starts[fresh]).tolist():
            part = _part(rows, fresh & (starts == start))
            for name, counts in self._reference.counts(part).items():
                self.counts.add_total(name, start, counts)

    def close(self, live: LiveModel, end_ms: int) -> list[Finding]:
        """Return the PSI of each feature over the window that ends at ``end_ms``.

        Nothing is returned where no model is live or the window has fewer than ``minimum`` events.
        """
        window = Window(end_ms - self._length_ms, end_ms)
        wanted = live.expected if self._monitor.features is None else self._monitor.features
        observed = {name: self.counts.window(name, window.start_ms, end_ms) for name in wanted}
        enough = {
            name: found
            for name, found in observed.items()
            if found is not None and name in live.expected and found.sum() >= self._monitor.minimum
        }
        return list(self._findings(live, enough, window))

    def forget(self, before_ms: int) -> None:
        """Forget old steps."""
        self.counts.drop_before(before_ms)

    def snapshot(self) -> tuple[Any, Mapping[str, NDArray[Any]]]:
        """Return (JSON, arrays)."""
        return self.counts.to_json(), {}

    def load(self, content: Any, _arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over a snapshot."""
        self.counts = StepSums.from_json(self.counts.step_ms, content)

    def _findings(
        self, live: LiveModel, observed: Mapping[str, NDArray[np.int64]], window: Window
    ) -> Iterator[Finding]:
        threshold = self._monitor.threshold
        for drift in compare(live.expected, observed):
            name = drift.feature
            excess = drift.psi / threshold
            metric = Metric(
                metric="psi",
                feature=name,
                value=drift.psi,
                threshold=threshold,
                n=drift.n,
                window=window,
                model_version=live.version,
                effect=drift.psi,
                observed=tuple(observed[name].tolist()),
            )
            if excess < 1:
                yield Finding("data_drift", metric, excess, drift.chance)
                continue
            labels = live.reference.bin_labels(name) if live.reference is not None else None
            yield Finding(
                kind="data_drift",
                metric=metric,
                excess=excess,
                chance=drift.chance,
                cause=(
                    f"PSI of {name} is {drift.psi:.3g}, above {threshold:g} and above what chance "
                    f"gives at n={drift.n:,}"
                ),
                severity=severity_of(excess),
                bins=shifted_bins(live.expected[name], observed[name], labels),
                onset=self._onset(live.expected[name], name, window),
            )

    def _onset(self, expected: NDArray[np.int64], name: str, window: Window) -> Onset | None:
        step = self.counts.step_ms
        starts = range(window.start_ms, window.end_ms, step)
        known = [(at, self.counts.window(name, at, at + step)) for at in starts]
        steps = [(at, counts) for at, counts in known if counts is not None]
        if not steps:
            return None
        at = first_shifted(expected, np.stack([counts for _, counts in steps]))
        return Onset(steps[at][0])


def severity_of(excess: float) -> Severity:
    """Return how severe a difference of ``excess`` times its threshold is."""
    return "critical" if excess >= CRITICAL else "warning"


def _part(rows: FeatureRows, chosen: NDArray[np.bool_]) -> Part:
    if chosen.all():
        return Part(rows.numeric, rows.categories)
    kept = chosen.tolist()
    return Part(rows.numeric[chosen], [list(compress(column, kept)) for column in rows.categories])
