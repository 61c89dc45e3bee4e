"""Concept drift as a watch: the losses' change, calibration, the label-free estimate, the delay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.alerting.finding import Finding
from serving.concept.course import LossCourse, under
from serving.concept.delay import LabelDelay
from serving.concept.findings import (
    calibration_findings,
    change_finding,
    delay_findings,
    estimate_findings,
    resolved,
)
from serving.concept.losses import log_loss_of_each
from serving.concept.score_sums import (
    add_by_cell,
    by_cell,
    can_be_estimated,
    expected_losses,
    hits,
    top_scores,
)
from serving.monitoring.judging import LiveModel
from serving.monitoring.matching import Matches
from serving.monitoring.told import can_be_scored
from serving.monitoring.watch import Answered, Watch
from serving.monitoring.windows import StepSums
from serving.performance.packing import pack, unpack
from serving.spec import ConceptDrift
from streams.durations import seconds
from streams.wire import Window
from training.networks.tasks import Task

PENDING = 5  # columns: label time, partition, offset, version, event time

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class ConceptWatch(Watch):
    """Watches the relation of scores and labels.

    Losses of the live version go through the detector when their step closes, in the order of
    (label time, partition, offset); a label whose answer comes only after its step was closed goes
    with the next one. All else are sums.

    Args:
        monitor: what was declared.
        task: what models answer.
        step_ms: the pipeline's step.
        level: how often one closing may be a false alarm of the detector.
    """

    def __init__(self, monitor: ConceptDrift, task: Task, step_ms: int, level: float) -> None:
        self._monitor, self._task, self._step_ms = monitor, task, step_ms
        self._window_ms = seconds(monitor.window) * 1000
        closings = max(1, self._window_ms // step_ms)
        self._course = LossCourse(monitor.detector, level, monitor.minimum, closings)
        self._version = 0
        self._pending: list[tuple[Ints, Floats]] = []
        self._answered, self._matched = StepSums(step_ms), StepSums(step_ms)
        self._first: dict[int, int] = {}  # version → its first event's time
        self._delay = LabelDelay(step_ms, self._window_ms)

    # Inputs

    def add_answers(self, answered: Answered) -> None:
        """Take predictions."""
        self._delay.add_answers(answered.event_times_ms)
        self._note_first(answered)
        if can_be_estimated(self._task):
            given = answered.only(can_be_scored(answered.scores))
            entropy, gain = expected_losses(self._task, given.scores)
            add_by_cell(
                self._answered, given.versions, given.event_times_ms,
                top_scores(self._task, given.scores), np.stack([entropy, gain, entropy**2], axis=1),
            )  # fmt: skip

    def _note_first(self, answered: Answered) -> None:
        for version in np.unique(answered.versions).tolist():
            least = int(answered.event_times_ms[answered.versions == version].min())
            self._first[version] = min(least, self._first.get(version, least))

    def add_matches(self, matches: Matches) -> None:
        """Take predictions whose labels have come."""
        self._delay.add_matches(matches.event_times_ms, matches.label_times_ms)
        given = matches.only(can_be_scored(matches.scores))
        if not len(given):
            return
        losses = log_loss_of_each(self._task, given.scores, given.labels)
        keys = np.stack(
            [given.label_times_ms, given.partitions, given.offsets, given.versions,
             given.event_times_ms],
            axis=1,
        )  # fmt: skip
        self._pending.append((keys, losses))
        if can_be_estimated(self._task):
            top = top_scores(self._task, given.scores)
            right = hits(self._task, given.scores, given.labels)
            columns = np.stack([top, right], axis=1)
            add_by_cell(self._matched, given.versions, given.label_times_ms, top, columns)

    # Closing

    def close(self, live: LiveModel, end_ms: int) -> list[Finding]:
        """Judge the windows that end at ``end_ms``."""
        window = Window(end_ms - self._window_ms, end_ms)
        found = [
            *self._changed(live, window),
            *self._calibrated(live, window),
            *self._estimated(live, window),
        ]
        self._delay.settle(end_ms)
        if self._monitor.label_delay is not None:
            found += delay_findings(self._delay, self._monitor, window, live.version)
        self._delay.forget(end_ms)
        return found

    def _changed(self, live: LiveModel, window: Window) -> Iterator[Finding]:
        keys, losses = self._take_pending(window.end_ms)
        if live.version != self._version:
            self._version = live.version
            self._course.begin()
        if not live.version:
            return
        mine = keys[:, 3] == live.version
        taken = self._course.take(losses[mine], keys[mine][:, [4, 1, 2]])
        if taken is None:
            return
        finding = change_finding(taken, self._monitor, self._task, window, live)
        if not taken.begun and taken.fresh.n >= self._monitor.minimum and resolved(finding):
            self._course.settle()
        yield finding

    def _calibrated(self, live: LiveModel, window: Window) -> Iterator[Finding]:
        validation = None if live.reference is None else live.reference.calibration
        total = self._matched.window(f"{live.version}", window.start_ms, window.end_ms)
        if validation is None or total is None:
            return
        counts, sums = by_cell(total, 2)
        if counts.sum() >= self._monitor.minimum:
            yield from calibration_findings(
                counts, sums, validation, self._course.dispersion, window, live.version
            )

    def _estimated(self, live: LiveModel, window: Window) -> Iterator[Finding]:
        name = f"{live.version}"
        total = self._answered.window(name, window.start_ms, window.end_ms)
        if total is None or not live.version:
            return
        whole = self._first[live.version] <= window.start_ms + self._step_ms
        counts, sums = by_cell(total, 3)
        if counts.sum() >= self._monitor.minimum:
            yield from estimate_findings(
                counts, sums, live, self._monitor, self._course.dispersion, window, whole
            )

    def _take_pending(self, end_ms: int) -> tuple[Ints, Floats]:
        """Return the matches whose label came before ``end_ms``, in their order."""
        keys = np.concatenate([np.empty((0, PENDING), np.int64), *(k for k, _ in self._pending)])
        losses = np.concatenate([np.empty(0), *(each for _, each in self._pending)])
        due = keys[:, 0] < end_ms
        self._pending = [(keys[~due], losses[~due])] if not due.all() else []
        keys, losses = keys[due], losses[due]
        order = np.lexsort((keys[:, 2], keys[:, 1], keys[:, 0]))
        return keys[order], losses[order]

    def forget(self, before_ms: int) -> None:
        """Steps that begin before are in no window any more."""
        self._answered.drop_before(before_ms)
        known = {int(name) for name in self._answered.names()} | {self._version}
        self._first = {v: at for v, at in self._first.items() if v in known}
        self._matched.drop_before(before_ms)

    # Snapshot

    def snapshot(self) -> tuple[Any, Mapping[str, NDArray[Any]]]:
        """Return (JSON, arrays)."""
        course, of_course = self._course.snapshot()
        delay, of_delay = self._delay.snapshot()
        answered, of_answered = pack(self._answered, "answered")
        matched, of_matched = pack(self._matched, "matched")
        content = {
            "version": self._version,
            "first": list(self._first.items()),
            "course": course,
            "delay": delay,
            "answered": answered,
            "matched": matched,
        }
        arrays: dict[str, NDArray[Any]] = {f"course_{k}": v for k, v in of_course.items()}
        arrays |= {f"delay_{k}": v for k, v in of_delay.items()} | of_answered | of_matched
        keys = [np.empty((0, PENDING), np.int64), *(k for k, _ in self._pending)]
        arrays["pending"] = np.concatenate(keys)
        arrays["losses"] = np.concatenate([np.empty(0), *(each for _, each in self._pending)])
        return content, arrays

    def load(self, content: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`snapshot` returned."""
        self._version = int(content["version"])
        self._first = {int(version): int(at) for version, at in content["first"]}
        self._course.load(content["course"], under("course_", arrays))
        self._delay.load(content["delay"], under("delay_", arrays))
        self._answered = unpack(self._step_ms, content["answered"], arrays, "answered")
        self._matched = unpack(self._step_ms, content["matched"], arrays, "matched")
        self._pending = [(arrays["pending"], arrays["losses"])] if len(arrays["losses"]) else []
