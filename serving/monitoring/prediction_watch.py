"""Prediction drift as a watch: the live version's scores against those of its validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.alerting.finding import Finding
from serving.alerting.onset import onset_of
from serving.drift.comparing import compare_cells, compare_classes
from serving.drift.drift import Drift
from serving.monitoring.cells import cells_of
from serving.monitoring.drift_findings import findings_of
from serving.monitoring.judging import LiveModel
from serving.monitoring.watch import Answered, Watch
from serving.monitoring.windows import StepSums, step_starts
from serving.performance.packing import pack, unpack
from serving.spec import PredictionDrift
from streams.durations import seconds
from streams.wire import Onset, Window
from training.dispersion import Dispersion
from training.networks.tasks import MultiClass, Task
from training.score_reference import CELLS, lower_bound, score_cells, score_widths, tenths

EDGES = np.array([lower_bound(cell) for cell in range(1, CELLS)])
_CALLED = {"score": "scores", "class": "the answers"}

Ints = NDArray[np.int64]


class PredictionDriftWatch(Watch):
    """Counts every version's answers on the grid of :mod:`training.score_reference`, per step.

    Answers come before anybody says that their version is live, so those of all versions count.
    """

    def __init__(self, monitor: PredictionDrift, task: Task, step_ms: int) -> None:
        self._monitor, self._task = monitor, task
        self._length_ms = seconds(monitor.window) * 1000
        self._counts = StepSums(step_ms)
        self._first: dict[int, int] = {}  # version → the step of its first answer

    def add_answers(self, answered: Answered) -> None:
        """Count predictions."""
        widths = score_widths(self._task)
        if not len(answered.versions) or not widths:
            return
        starts = step_starts(answered.event_times_ms, self._counts.step_ms)
        numbers, first = cells_of([answered.versions, starts // self._counts.step_ms])
        of = np.stack([answered.versions[first], starts[first]], axis=1)
        for version, start in of.tolist():
            self._first[version] = min(start, self._first.get(version, start))
        for name, cells in score_cells(self._task, answered.scores).items():
            width = widths[name]
            flat = np.bincount(numbers * width + cells, minlength=len(of) * width)
            for (version, start), total in zip(of.tolist(), flat.reshape(-1, width), strict=True):
                self._counts.add_total(f"{version}|{name}", start, total)

    def close(self, live: LiveModel, end_ms: int) -> list[Finding]:
        """Return the figures of the live version's scores; none where its package has none to
        compare with, or the window has fewer than ``minimum`` of its answers.

        They are judged once the version has answered for a whole window: the first weekend of a
        model is no week, whatever its scores.
        """
        window = Window(end_ms - self._length_ms, end_ms)
        findings: list[Finding] = []
        if live.reference is None:
            return findings
        for name, expected in live.reference.scores.items():
            key = f"{live.version}|{name}"
            found = self._counts.window(key, window.start_ms, end_ms)
            if found is None or found.sum() < self._monitor.minimum or not expected.sum():
                continue
            starts = _bins(name, expected)
            told = findings_of(
                self._compare(name, expected, found, live.reference.score_dispersion(name)),
                kind="prediction_drift",
                threshold=self._monitor.threshold,
                window=window,
                version=live.version,
                observed=np.add.reduceat(found, starts),
                onset=partial(self._onset, key, expected, starts, window),
                name=_CALLED[name],
            )
            is_whole = self._first[live.version] <= window.start_ms
            findings += told if is_whole else (replace(each, excess=None) for each in told)
        return findings

    def forget(self, before_ms: int) -> None:
        """Forget old steps."""
        self._counts.drop_before(before_ms)
        known = {int(name.partition("|")[0]) for name in self._counts.names()}
        self._first = {v: start for v, start in self._first.items() if v in known}

    def snapshot(self) -> tuple[Any, Mapping[str, NDArray[Any]]]:
        """Return (JSON, arrays)."""
        content, arrays = pack(self._counts, "scores")
        return {"first": list(self._first.items()), "counts": content}, arrays

    def load(self, content: Any, arrays: Mapping[str, NDArray[Any]], /) -> None:
        """Take over a snapshot."""
        self._first = {int(version): int(start) for version, start in content["first"]}
        self._counts = unpack(self._counts.step_ms, content["counts"], arrays, "scores")

    def _compare(self, name: str, expected: Ints, observed: Ints, moves: Dispersion) -> Drift:
        if name == "class" and isinstance(self._task, MultiClass):
            labels = list(map(str, self._task.classes))
            return compare_classes(name, expected, observed, labels, self._length_ms, moves)
        return compare_cells(name, expected, observed, EDGES, self._length_ms, moves)

    def _onset(self, key: str, expected: Ints, bins: Ints, window: Window) -> Onset | None:
        starts, steps = self._counts.steps(key, window.start_ms, window.end_ms)
        if not len(starts):
            return None
        coarse = np.add.reduceat(steps, bins, axis=1)
        return onset_of(np.add.reduceat(expected, bins), starts, coarse)


def _bins(name: str, expected: Ints) -> Ints:
    """Return the cells with which the bins begin that PSI is of."""
    return tenths(expected) if name == "score" else np.arange(len(expected))
