"""The heat map of drift: a fold over the figures of closed windows, as columns of arrays."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.dashboard.documents.figures import (
    CellFigure,
    Drift,
    DriftCell,
    DriftFigures,
    DriftWindow,
)
from serving.dashboard.kept import PREDICTION, Key, digits, key_of, too_old
from streams.wire import Metric
from training.reference import Reference

VALUE, P, EFFECT, N, EXCESS = range(5)
FIGURES = 5
ROWS = 32
"""Rows by which a column grows."""

Floats = NDArray[np.float64]


@dataclass
class _Column:
    """One window: metric → (figures, rows), and row → the counts of its bins."""

    revision: int = 0
    figures: dict[str, Floats] = field(default_factory=dict)
    observed: dict[int, array[int]] = field(default_factory=dict)


class DriftMap:
    """Features × windows. Rows are in the order of being told of first."""

    def __init__(self) -> None:
        self.revision = 0
        self._rows: dict[str, int] = {}
        self._columns: dict[Key, _Column] = {}
        self._thresholds: dict[str, dict[int, float]] = {}

    def take(self, metric: Metric) -> None:
        """Add a figure of a window, or put it in place of the one told before."""
        self.revision += 1
        key, label = key_of(metric), row_label(metric)
        column = self._columns.get(key)
        if column is None:
            column = self._columns[key] = _Column()
            for old in too_old(self._columns):
                del self._columns[old]
        row = self._rows.setdefault(label, len(self._rows))
        figures = column.figures.get(metric.metric)
        if figures is None or row >= figures.shape[1]:
            figures = column.figures[metric.metric] = _grown(figures, row)
        threshold = metric.threshold
        if threshold is not None:
            self._thresholds.setdefault(metric.metric, {})[row] = threshold
        figures[:, row] = (
            metric.value,
            np.nan if metric.p_value is None else metric.p_value,
            np.nan if metric.effect is None else metric.effect,
            metric.n,
            metric.value / threshold if threshold else np.nan,
        )
        if metric.observed is not None:
            column.observed[row] = array("q", metric.observed)
        column.revision = self.revision

    def whole(self) -> Drift:
        """Return all of it."""
        return self._document(sorted(self._columns), True)

    def since(self, revision: int) -> Drift:
        """Return the windows that changed after ``revision``."""
        keys = sorted(key for key, c in self._columns.items() if c.revision > revision)
        return self._document(keys, False)

    def cell(
        self, feature: str, key: Key, reference: Reference | None, named: str | None
    ) -> DriftCell | None:
        """Return the two distributions of a row in a window; None where there is no such cell.

        ``reference`` is what ``named`` ("model 3") saw in training.
        """
        column, row = self._columns.get(key), self._rows.get(feature)
        if column is None or row is None:
            return None
        figures = [
            self._figure(metric, values[:, row], row)
            for metric, values in sorted(column.figures.items())
            if row < values.shape[1] and np.isfinite(values[VALUE, row])
        ]
        name, _, group = feature.partition("[")
        if reference is not None and group:
            reference = reference.groups.get(group.removesuffix("]"))
        counts = None if reference is None else reference.expected.get(name)
        observed = column.observed.get(row)
        same = counts is None or observed is None or len(counts) == len(observed)
        seen = None if observed is None or not same else np.asarray(observed, np.float64)
        labels: list[str] = []
        if reference is not None and counts is not None:
            labels = reference.bin_labels(name)
        elif observed is not None:
            labels = [f"bin {i + 1}" for i in range(len(observed))]
        return DriftCell(
            feature,
            _window(key),
            labels,
            None if counts is None else _shares(counts),
            None if seen is None else _shares(seen),
            None if counts is None else int(counts.sum()),
            None if seen is None else int(seen.sum()),
            None if counts is None else named,
            _missing(counts is None, observed is None, not same, named),
            figures,
        )

    def _figure(self, metric: str, values: Floats, row: int) -> CellFigure:
        value, p, effect = digits(values[[VALUE, P, EFFECT]])
        threshold = self._thresholds.get(metric, {}).get(row)
        return CellFigure(metric, value or 0.0, threshold, p, effect)

    def _document(self, keys: list[Key], is_whole: bool) -> Drift:
        names = sorted({name for key in keys for name in self._columns[key].figures}, key=_first)
        return Drift(
            revision=self.revision,
            whole=is_whole,
            features=list(self._rows),
            windows=[_window(key) for key in keys],
            figures=[self._figures(name, keys) for name in names],
        )

    def _figures(self, name: str, keys: list[Key]) -> DriftFigures:
        rows = len(self._rows)
        cube = np.full((FIGURES, rows, len(keys)), np.nan)
        for place, key in enumerate(keys):
            found = self._columns[key].figures.get(name)
            if found is not None:
                width = min(rows, found.shape[1])
                cube[:, :width, place] = found[:, :width]
        value, p, effect, n, excess = (_rows(part) for part in cube)
        thresholds = self._thresholds.get(name, {})
        counts = [[None if x is None else int(x) for x in row] for row in n]
        return DriftFigures(
            name, value, p, effect, counts, excess, [thresholds.get(row) for row in range(rows)]
        )


def row_label(metric: Metric) -> str:
    """Return the row of a figure: the feature, of a group ``feature[field=value]``."""
    name = metric.feature or PREDICTION
    return name if metric.group is None else f"{name}[{metric.group}]"


def _grown(before: Floats | None, row: int) -> Floats:
    grown = np.full((FIGURES, (row // ROWS + 1) * ROWS), np.nan)
    if before is not None:
        grown[:, : before.shape[1]] = before
    return grown


def _rows(part: Floats) -> list[list[float | None]]:
    width = part.shape[1]
    flat = digits(part.reshape(-1))
    return [flat[begin : begin + width] for begin in range(0, len(flat), width or 1)]


def _shares(counts: NDArray[np.float64] | NDArray[np.int64]) -> list[float]:
    total = counts.sum()
    return [round(share, 6) for share in (counts / (total or 1)).tolist()]


def _window(key: Key) -> DriftWindow:
    end_ms, start_ms, version = key
    return DriftWindow(start_ms, end_ms, version)


def _missing(
    no_reference: bool, no_counts: bool, other_bins: bool, named: str | None
) -> str | None:
    if no_reference:
        return f"what {named or 'the model'} saw of it in training can't be read"
    if no_counts:
        return "the window's counts were not written: its monitor is of an earlier version"
    return "the window was counted in other bins than the reference's" if other_bins else None


def _first(name: str) -> tuple[bool, str]:
    """Sort the usual index before all others."""
    return name != "psi", name
