"""Performance over event time: a fold over the figures of closed windows, a line per metric,
version and group."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from serving.dashboard.documents.figures import Mark, Performance, Series
from serving.dashboard.kept import ESTIMATED, digits
from streams.wire import Metric

HIGHER_IS_BETTER = frozenset({"accuracy", "auc", "average_precision", "within_90"})
ORDER = ("log_loss", "brier", "auc", "average_precision", "accuracy", "calibration_gap")
LINES, POINTS = 200, 800
"""Lines kept at most, and windows of each: at least 30 days of hours."""

Line = tuple[str, int, str | None, str]


@dataclass
class _Points:
    """(end, start) → the newest figure and the revision at which it came."""

    points: dict[tuple[int, int], tuple[Metric, int]] = field(default_factory=dict)
    newest_ms: int = 0


class PerformanceLines:
    """Lines over event time; ``marks`` are put in by whoever knows them."""

    def __init__(self) -> None:
        self.revision = 0
        self._lines: dict[Line, _Points] = {}
        self._marks: dict[str, list[Mark]] = {}

    def take(self, metric: Metric) -> None:
        """Add a figure; of one told before the one restated most often counts."""
        line = metric.metric, metric.model_version, metric.group, metric.by
        held = self._lines.setdefault(line, _Points())
        place = metric.window.end_ms, metric.window.start_ms
        before = held.points.get(place)
        if before is not None and before[0].restated > metric.restated:
            return
        self.revision += 1
        held.points[place] = metric, self.revision
        held.newest_ms = max(held.newest_ms, place[0])
        if len(held.points) > POINTS + POINTS // 8:
            for old in sorted(held.points)[:-POINTS]:
                del held.points[old]
        if len(self._lines) > LINES:
            del self._lines[min(self._lines, key=lambda each: self._lines[each].newest_ms)]

    def mark(self, source: str, marks: list[Mark]) -> None:
        """Put marks in place of those that ``source`` gave before."""
        if self._marks.get(source) != marks:
            self.revision += 1
            self._marks[source] = marks

    def whole(self) -> Performance:
        """Return all of it."""
        return self._document(0, True)

    def since(self, revision: int) -> Performance:
        """Return the points that changed after ``revision``; marks and names whole."""
        return self._document(revision, False)

    def _document(self, after: int, is_whole: bool) -> Performance:
        series = [_series(line, held, after) for line, held in self._lines.items()]
        names = {line[0] for line in self._lines}
        marks = [mark for source in sorted(self._marks) for mark in self._marks[source]]
        return Performance(
            revision=self.revision,
            whole=is_whole,
            metrics=sorted(names, key=_place),
            higher_is_better=sorted(names & HIGHER_IS_BETTER),
            versions=sorted({line[1] for line in self._lines}),
            groups=sorted({line[2] for line in self._lines if line[2] is not None}),
            series=[each for each in series if each.end_ms],
            marks=sorted(marks, key=lambda mark: (mark.at_ms, mark.kind, mark.label)),
        )


def _series(line: Line, held: _Points, after: int) -> Series:
    name, version, group, by = line
    found = [metric for _, (metric, at) in sorted(held.points.items()) if at > after]
    low, high = ([getattr(m, bound) for m in found] for bound in ("low", "high"))
    return Series(
        name, version, group, "label" if by == "label" else "event", ESTIMATED in name,
        [m.window.start_ms for m in found],
        [m.window.end_ms for m in found],
        _rounded([m.value for m in found]),  # type: ignore[arg-type]
        _rounded(low),
        _rounded(high),
        _rounded([m.threshold for m in found]),
        [m.n for m in found],
        [m.restated for m in found],
    )  # fmt: skip


def _rounded(values: list[float | None]) -> list[float | None]:
    return digits(np.array(values, np.float64)) if values else []


def _place(name: str) -> tuple[int, str]:
    """Sort the usual metrics first, and estimates last."""
    if name in ORDER:
        return ORDER.index(name), name
    return len(ORDER) + (ESTIMATED in name), name
