"""What a version's answers to the past come to beside those given then. Pure; constant memory.

Losses of neighbouring events depend on each other, so the interval of a difference comes from
blocks of consecutive time (:mod:`training.retraining.comparison`): with b blocks of sums sᵢ over nᵢ
events, mean m = Σsᵢ/Σnᵢ and m ± t(b − 1) · √(b/(b − 1) · Σ(sᵢ − m·nᵢ)²)/Σnᵢ, the ratio estimator,
which for equal nᵢ is that of batch means. Sums are kept per bin of time; when there are too many
bins, each two of them become one, so what is kept does not grow with the past.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.drift.psi import psi
from serving.monitoring.told import answers_of, can_be_scored
from serving.shadowing.pairs import Pairs
from training.networks.tasks import Binary, MultiClass, Task
from training.retraining.comparison import BLOCKS, LEVEL, Interval
from training.scores import losses

BIN_MS = 60_000
MAX_BINS = 4_096
SCORE_BINS = 10
MINIMUM_BLOCKS = 5
EDGES_FROM = 1_000
"""The bins of the scores are the tenths of so many of the first answers of both."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Compared:
    """Per event, (n,): whether the decisions differ (NaN: the task has none), the distance of the
    scores, whether it is scored, and name → (losses of what answered then, of the version)."""

    differs: Floats
    distance: Floats
    scored: NDArray[np.bool_]
    losses: dict[str, tuple[Floats, Floats]]


def compared(task: Task, pairs: Pairs) -> Compared:
    """Return what n events come to."""
    live, answers = pairs.live, pairs.answers
    told = [rows[:, 0] if rows.shape[1] == 1 else rows for rows in (live, answers)]
    before, now = (answers_of(task, rows) for rows in told)
    labelled = np.isfinite(pairs.labels)
    scored = labelled & can_be_scored(told[0]) & can_be_scored(told[1])
    targets = pairs.labels[scored]
    found = [losses(task, each.take(scored), targets) for each in (before, now)]
    return Compared(
        _differs(task, live, answers),
        np.abs(now.score - before.score),
        scored,
        {name: (found[0][name], found[1][name]) for name in found[0]},
    )


def _differs(task: Task, live: Floats, answers: Floats) -> Floats:
    match task:
        case Binary():
            other = (live[:, 0] >= 0.5) != (answers[:, 0] >= 0.5)
        case MultiClass():
            other = live.argmax(axis=1) != answers.argmax(axis=1)
        case _:
            return np.full(len(live), np.nan)
    return np.asarray(other, np.float64)


@dataclass
class TimeBins:
    """Sums per bin of time: number, and per column the sum. ``width_ms`` doubles as time passes."""

    columns: int
    width_ms: int = BIN_MS
    sums: dict[int, Floats] = field(default_factory=dict)

    def add(self, times_ms: Ints, values: Floats) -> None:
        """Add values (n, columns) at times (n,)."""
        bins, where = np.unique(times_ms // self.width_ms, return_inverse=True)
        totals = np.zeros((len(bins), self.columns + 1))
        np.add.at(totals, where, np.column_stack([np.ones(len(values)), values]))
        for number, total in zip(bins.tolist(), totals, strict=True):
            self.sums[number] = self.sums.get(number, 0.0) + total
        while len(self.sums) > MAX_BINS:
            self._halve()

    def _halve(self) -> None:
        before, self.sums = self.sums, {}
        self.width_ms *= 2
        for number, total in before.items():
            self.sums[number // 2] = self.sums.get(number // 2, 0.0) + total

    def interval(self, column: int, blocks: int = BLOCKS, level: float = LEVEL) -> Interval | None:
        """Return mean and bounds of a column; None where there are too few blocks of time."""
        from scipy.special import stdtrit

        if not self.sums:
            return None
        ordered = np.array([self.sums[number] for number in sorted(self.sums)])
        counts, sums = ordered[:, 0], ordered[:, 1 + column]
        n = counts.sum()
        mean = float(sums.sum() / n)
        # A bin belongs to the block in which its middle event falls.
        places = ((counts.cumsum() - counts / 2) * blocks / n).astype(np.int64)
        used, block = np.unique(places, return_inverse=True)
        b = len(used)
        if b < MINIMUM_BLOCKS:
            return None
        of_block = np.bincount(block, sums) - mean * np.bincount(block, counts)
        error = math.sqrt(b / (b - 1) * float(of_block @ of_block)) / n
        half = float(stdtrit(b - 1, 0.5 + level / 2)) * error
        return Interval(mean, mean - half, mean + half)


@dataclass
class Total:
    """Sums over a period, or over all."""

    n: int = 0
    distance: float = 0.0
    differs: float = 0.0
    scored: int = 0
    live: dict[str, float] = field(default_factory=dict)
    version: dict[str, float] = field(default_factory=dict)

    def add(self, found: Compared, chosen: NDArray[np.bool_]) -> None:
        """Add the events where ``chosen`` (n,) holds."""
        self.n += int(chosen.sum())
        self.distance += float(found.distance[chosen].sum())
        self.differs += float(found.differs[chosen].sum())
        mine = chosen[found.scored]
        self.scored += int(mine.sum())
        for name, (live, version) in found.losses.items():
            self.live[name] = self.live.get(name, 0.0) + float(live[mine].sum())
            self.version[name] = self.version.get(name, 0.0) + float(version[mine].sum())

    def to_json(self) -> dict[str, Any]:
        """Return the means as JSON types."""
        n = self.scored
        scores = {
            name: {"live": self.live[name] / n, "version": self.version[name] / n}
            for name in self.live
            if n
        }
        return {
            "rows": self.n,
            "mean_difference": self.distance / self.n if self.n else None,
            "decisions_differ": _share(self.differs, self.n),
            "labelled": self.scored,
            "scores": scores,
        }


class Figures:
    """Everything that is told of a comparison; ``period_of`` names the period of event times."""

    def __init__(self, task: Task, period_of: Callable[[Ints], list[str]]) -> None:
        self._task, self._period_of = task, period_of
        self.all = Total()
        self.periods: dict[str, Total] = {}
        self.live_versions: dict[int, int] = {}
        self._bins: TimeBins | None = None
        self._names: list[str] = []
        self._first: list[Pairs] = []
        self._edges: Floats | None = None
        self._counts = np.zeros((2, SCORE_BINS), np.int64)

    def add(self, pairs: Pairs) -> None:
        """Take n events."""
        if not len(pairs):
            return
        found = compared(self._task, pairs)
        self.all.add(found, np.ones(len(pairs), bool))
        names = np.array(self._period_of(pairs.event_times_ms))
        for name in dict.fromkeys(names.tolist()):
            self.periods.setdefault(name, Total()).add(found, names == name)
        for version, n in zip(*np.unique(pairs.live_versions, return_counts=True), strict=True):
            self.live_versions[int(version)] = self.live_versions.get(int(version), 0) + int(n)
        self._names = list(found.losses)
        if found.scored.any():
            differences = [version - live for live, version in found.losses.values()]
            self._bins = self._bins or TimeBins(len(differences))
            self._bins.add(pairs.event_times_ms[found.scored], np.column_stack(differences))
        self._count_scores(pairs)

    def _count_scores(self, pairs: Pairs) -> None:
        if self._edges is None:
            self._first.append(pairs)
            if sum(map(len, self._first)) < EDGES_FROM:
                return
            self._begin_counting()
            return
        for i, rows in enumerate((pairs.live, pairs.answers)):
            places = np.searchsorted(self._edges, _scores(self._task, rows), side="right")
            self._counts[i] += np.bincount(places, minlength=SCORE_BINS)

    def _begin_counting(self) -> None:
        first, self._first = self._first, []
        both = [rows for pairs in first for rows in (pairs.live, pairs.answers)]
        scores = np.concatenate([_scores(self._task, rows) for rows in both])
        self._edges = np.quantile(scores, np.arange(1, SCORE_BINS) / SCORE_BINS)
        for pairs in first:
            self._count_scores(pairs)

    def psi(self) -> float | None:
        """Return the PSI of the scores, of what answered then to the version's."""
        if self._edges is None and self._first:
            self._begin_counting()
        return psi(self._counts[0], self._counts[1]) if self._counts.any() else None

    def to_json(self) -> dict[str, Any]:
        """Return all as JSON types."""
        told = self.all.to_json()
        for i, name in enumerate(self._names if self.all.scored else []):
            found = self._bins.interval(i) if self._bins is not None else None
            told["scores"][name]["difference"] = (
                None
                if found is None
                else {"mean": found.mean, "low": found.low, "high": found.high}
            )
        return {
            **told,
            "score_psi": self.psi(),
            "live_versions": {str(v): n for v, n in sorted(self.live_versions.items())},
            "periods": {name: total.to_json() for name, total in sorted(self.periods.items())},
        }


def _scores(task: Task, rows: Floats) -> Floats:
    scores: Floats = rows.max(axis=1) if isinstance(task, MultiClass) else rows[:, 0]
    return scores


def _share(part: float, n: int) -> float | None:
    return None if not n or math.isnan(part) else part / n
