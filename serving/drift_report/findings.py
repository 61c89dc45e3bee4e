"""What a window shows against the reference of a model: all that the report tells. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.alerting.deciding import adjusted
from serving.drift.comparing import compare_all, compare_cells, compare_classes
from serving.drift.domain import Separability
from serving.drift.drift import Drift
from serving.performance.figures import Figures
from training.networks.tasks import MultiClass, Task
from training.reference import Reference
from training.score_reference import CELLS, lower_bound, tenths

LEVEL = 0.05
"""The share of false discoveries among what is called a change."""
FEWEST = 500
"""In windows of fewer events than this the PSI of most features is noise."""
CURVE_BINS = 10

Counts = NDArray[np.int64]
Verdict = Literal["major", "moderate", "small", "none"]


@dataclass(frozen=True)
class Bar:
    """A bin: what it holds, and the shares of both sides in it."""

    label: str
    expected: float
    observed: float


@dataclass(frozen=True)
class Row:
    """A feature, or the answers: its comparison, the p-values adjusted for all of the report (by
    test: ``psi``, ``ks``, ``missing``, ``new``), and its two distributions."""

    drift: Drift
    p: Mapping[str, float]
    bars: Sequence[Bar]

    @property
    def verdict(self) -> Verdict:
        """How far it has moved, beyond chance; "none" where chance explains it."""
        if min(self.p.values()) > LEVEL:
            return "none"
        if self.drift.band == "none" or self.drift.psi <= self.drift.critical:
            return "small"
        return self.drift.band


@dataclass(frozen=True)
class Point:
    """A stretch of scores: their mean, the share that turned out, and of how many."""

    score: float
    happened: float
    n: int


@dataclass(frozen=True)
class Observed:
    """A window: event time [start, end), what was counted in the reference's bins, of how many
    events; and of the version's answers: counts in cells, the figures of those with labels, and
    per score cell (CELLS, 3) how many there were, the sum of the scores, and of what turned out."""

    start_ms: int
    end_ms: int
    n: int
    features: Mapping[str, Counts]
    scores: Mapping[str, Counts] = field(default_factory=dict)
    figures: Figures | None = None
    calibration: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Findings:
    """All that is told. ``validation`` are the figures of the model's own validation, ``before``
    and ``now`` its calibration then and in the window."""

    observed: Observed
    features: Sequence[Row]
    scores: Sequence[Row]
    validation: Mapping[str, float]
    before: Sequence[Point] = ()
    now: Sequence[Point] = ()
    separable: Separability | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        seen = self.observed
        return {
            "window": {"start_ms": seen.start_ms, "end_ms": seen.end_ms, "n": seen.n},
            "features": [_row_json(row) for row in self.features],
            "scores": [_row_json(row) for row in self.scores],
            "performance": None if seen.figures is None else msgspec.to_builtins(seen.figures),
            "validation": dict(self.validation),
            "calibration": {
                "validation": msgspec.to_builtins(self.before),
                "window": msgspec.to_builtins(self.now),
            },
            "multivariate": (
                None if self.separable is None else msgspec.to_builtins(self.separable)
            ),
        }


def examine(
    reference: Reference,
    observed: Observed,
    task: Task,
    validation: Mapping[str, float],
    separable: Separability | None = None,
) -> Findings:
    """Return what the window shows, the features that moved furthest beyond chance first."""
    window_ms = observed.end_ms - observed.start_ms
    drifts = compare_all(reference, observed.features, window_ms)
    bars = [
        _bars(
            reference.bin_labels(name),
            reference.coarse(name, reference.fine_expected[name]),
            reference.coarse(name, counts),
        )
        for name, counts in observed.features.items()
    ]
    answers = [
        _of_scores(reference, name, counts, task, window_ms)
        for name, counts in observed.scores.items()
        if name in reference.scores
    ]
    pairs = [*zip(drifts, bars, strict=True), *answers]
    chances = [_chances(drift) for drift, _ in pairs]
    flat = iter(adjusted([p for each in chances for p in each.values()]).tolist())
    rows = [
        Row(drift, {test: next(flat) for test in each}, bar)
        for (drift, bar), each in zip(pairs, chances, strict=True)
    ]
    features, scores = rows[: len(drifts)], rows[len(drifts) :]
    return Findings(
        observed,
        sorted(features, key=lambda row: (row.verdict == "none", -row.drift.psi)),
        scores,
        validation,
        _curve(reference.calibration),
        _curve(observed.calibration),
        separable,
    )


def _chances(drift: Drift) -> dict[str, float]:
    found = {
        "psi": drift.chance,
        "ks": drift.ks_chance,
        "missing": drift.missing_chance,
        "new": drift.new_chance,
    }
    return {test: p for test, p in found.items() if p is not None}


def _of_scores(
    reference: Reference, name: str, observed: Counts, task: Task, window_ms: int
) -> tuple[Drift, list[Bar]]:
    expected, moves = reference.scores[name], reference.score_dispersion(name)
    if name == "class" and isinstance(task, MultiClass):
        labels = [str(each) for each in task.classes]
        drift = compare_classes(name, expected, observed, labels, window_ms, moves)
        return drift, _bars(labels, expected, observed)
    edges = np.array([lower_bound(cell) for cell in range(1, CELLS)])
    drift = compare_cells(name, expected, observed, edges, window_ms, moves)
    starts = tenths(expected)
    told = [f"{lower_bound(int(cell)):.3g}" for cell in starts] + ["1"]
    labels = [f"{low} to {high}" for low, high in pairwise(told)]
    one, other = (np.add.reduceat(counts, starts) for counts in (expected, observed))
    return drift, _bars(labels, one, other)


def _bars(labels: Sequence[str], expected: Counts, observed: Counts) -> list[Bar]:
    totals = max(1, int(expected.sum())), max(1, int(observed.sum()))
    sides = zip(labels, expected.tolist(), observed.tolist(), strict=True)
    return [Bar(label, one / totals[0], other / totals[1]) for label, one, other in sides]


def _curve(cells: NDArray[np.float64] | None) -> list[Point]:
    """Return at most ten points of a calibration curve, about equally full."""
    if cells is None or not cells[:, 0].sum():
        return []
    starts = tenths(cells[:, 0].astype(np.int64))
    sums = np.add.reduceat(cells, starts, axis=0)
    return [Point(s / n, h / n, int(n)) for n, s, h in sums.tolist() if n]


def _row_json(row: Row) -> dict[str, Any]:
    drift = msgspec.to_builtins(row.drift)
    return {
        **drift,
        "band": row.drift.band,
        "verdict": row.verdict,
        "adjusted_p": dict(row.p),
        "distribution": msgspec.to_builtins(row.bars),
    }
