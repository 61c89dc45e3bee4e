"""Performance as a watch: figures by the arrival of labels, which may alarm, and by event time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from serving.alerting.finding import Finding
from serving.monitoring.groups import Groups
from serving.monitoring.judging import LiveModel
from serving.monitoring.matching import Matches
from serving.monitoring.watch import Watch
from serving.monitoring.windows import StepSums
from serving.performance.by_event import ByEvent
from serving.performance.judging import judged
from serving.performance.packing import pack, unpack
from serving.performance.slices import families, key_of, slice_of
from serving.performance.sums import PLAIN, scored, totals_of
from serving.performance.telling import metrics_of, told
from serving.spec import Performance
from streams.durations import seconds
from streams.wire import Window
from training.networks.tasks import Task

SLICE_MINIMUM = 30
"""Fewer pairs than this of a slice, or of a step of event time, give no figures."""


class PerformanceWatch(Watch):
    """Scores of every version on labels that have arrived, of all events and of each group.

    Two cuts: windows by the arrival of labels, whose figures of the live version are compared with
    its validation; and single steps of event time, told anew while labels still come for them.
    Sums of event time's slices hold no histogram, so slices have no AUC there.
    """

    def __init__(self, monitor: Performance, task: Task, step_ms: int, groups: Groups) -> None:
        self._monitor, self._task, self._groups = monitor, task, groups
        self._step_ms = step_ms
        self._by_label, self._by_event = StepSums(step_ms), ByEvent(step_ms)

    def add_matches(self, matches: Matches) -> None:
        """Take predictions whose labels have come."""
        if not len(matches):
            return
        pairs = scored(matches.scores, matches.labels, self._task)
        fields = (None, *self._groups.fields)
        for family in families(matches, self._groups, self._step_ms, fields):
            totals = totals_of(pairs, family.cells, len(family.of), ranked=True)
            for (version, group, arrived, happened), total in zip(family.of, totals, strict=True):
                key = key_of(version, group)
                self._by_label.add_total(key, arrived, total)
                kept = total[:PLAIN] if group else total
                self._by_event.add(key, arrived, happened, kept)

    def close(self, live: LiveModel, end_ms: int) -> list[Finding]:
        """Return the figures of the window that ends, and of the steps of event time that have
        changed. Only those of the live version and all events may alarm, by the arrival."""
        return [*self._arrived(live, end_ms), *self._happened(end_ms)]

    def _arrived(self, live: LiveModel, end_ms: int) -> Iterator[Finding]:
        window = Window(end_ms - seconds(self._monitor.window) * 1000, end_ms)
        enough: dict[int, bool] = {}
        for key in self._by_label.names():  # sorted: all events of a version come before its groups
            version, group = slice_of(key)
            starts, steps = self._by_label.steps(key, window.start_ms, end_ms)
            n = int(steps[:, 0].sum()) if len(steps) else 0
            if not group:
                enough[version] = n >= self._monitor.minimum
            is_enough = enough.get(version, False) and n >= SLICE_MINIMUM
            found = told(steps, self._task) if is_enough else None
            if found is None:
                continue
            findings = [
                Finding("performance", metric)
                for metric in metrics_of(found, version, group or None, window, "label")
            ]
            if version == live.version and not group:
                findings = judged(findings, found, live, self._monitor, self._task, starts, steps)
            yield from findings

    def _happened(self, end_ms: int) -> Iterator[Finding]:
        for key, start, total, before in self._by_event.close(end_ms, SLICE_MINIMUM):
            version, group = slice_of(key)
            found = told(total[None, :], self._task)
            if found is not None:
                window = Window(start, start + self._step_ms)
                for metric in metrics_of(found, version, group or None, window, "event", before):
                    yield Finding("performance", metric)

    def forget(self, before_ms: int) -> None:
        """Steps of arrival that begin before are in no window any more."""
        self._by_label.drop_before(before_ms)

    def snapshot(self) -> tuple[Any, Mapping[str, NDArray[Any]]]:
        """Return (JSON, arrays)."""
        keys, arrays = pack(self._by_label, "label")
        content, more = self._by_event.snapshot()
        return {"by_label": keys, "by_event": content}, arrays | more

    def load(self, content: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`snapshot` returned."""
        self._by_label = unpack(self._step_ms, content["by_label"], arrays, "label")
        self._by_event.load(content["by_event"], arrays)
