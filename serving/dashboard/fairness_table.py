"""Fairness by window: a fold over the figures of closed windows."""

from __future__ import annotations

from serving.dashboard.documents.figures import Fairness, FairnessFigure, FairnessWindow
from serving.dashboard.kept import Key, key_of, too_old
from streams.wire import Metric


class FairnessTable:
    """Windows with the figures of their groups."""

    def __init__(self) -> None:
        self.revision = 0
        self._windows: dict[Key, dict[tuple[str, str], Metric]] = {}

    def take(self, metric: Metric) -> None:
        """Add a figure; of one told before the one restated most often counts."""
        key = key_of(metric)
        if key not in self._windows:
            self._windows[key] = {}
            for old in too_old(self._windows):
                del self._windows[old]
        figures = self._windows.get(key)
        if figures is None:
            return  # older than all that is kept
        place = metric.metric, group_label(metric)
        before = figures.get(place)
        if before is None or before.restated <= metric.restated:
            figures[place] = metric
            self.revision += 1

    def whole(self) -> Fairness:
        """Return all of it."""
        groups = {label for figures in self._windows.values() for _, label in figures}
        names = {name for figures in self._windows.values() for name, _ in figures}
        return Fairness(
            revision=self.revision,
            fields=sorted({label.partition("=")[0].partition(" (")[0] for label in groups}),
            metrics=sorted(names),
            windows=[_window(key, figures) for key, figures in sorted(self._windows.items())],
        )


def group_label(metric: Metric) -> str:
    """Return the group of a figure; of one class of several ``field=value (class)``."""
    group = metric.group or "all"
    return group if metric.feature is None else f"{group} ({metric.feature})"


def _window(key: Key, figures: dict[tuple[str, str], Metric]) -> FairnessWindow:
    end_ms, start_ms, version = key
    return FairnessWindow(
        start_ms,
        end_ms,
        version,
        max(metric.restated for metric in figures.values()),
        [
            FairnessFigure(
                name, label, metric.value, metric.low, metric.high, metric.threshold, metric.n
            )
            for (name, label), metric in sorted(figures.items())
        ],
    )
