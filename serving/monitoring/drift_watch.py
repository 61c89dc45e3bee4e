"""Data drift as a watch: each feature's window against the live model's training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.records import FeatureRows
from serving.alerting.finding import Finding
from serving.alerting.onset import onset_of
from serving.drift.comparing import compare_all
from serving.monitoring.drift_findings import findings_of
from serving.monitoring.groups import Groups
from serving.monitoring.judging import LiveModel
from serving.monitoring.watch import Watch
from serving.monitoring.windows import StepSums, step_starts
from serving.performance.packing import pack, unpack
from serving.spec import DataDrift
from streams.durations import seconds
from streams.wire import Onset, Window
from training.reference import Reference

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Part:
    """The model inputs of some rows; satisfies :class:`training.dataset.prepared.Columns`."""

    numeric: NDArray[np.float64]
    categories: list[list[str]]


class DataDriftWatch(Watch):
    """Counts features in the live model's fine bins, per step, and compares windows."""

    def __init__(self, monitor: DataDrift, step_ms: int, groups: Groups) -> None:
        self._monitor, self._groups = monitor, groups
        self._length_ms = seconds(monitor.window) * 1000
        self._counts = StepSums(step_ms)
        self._reference: Reference | None = None

    def use(self, live: LiveModel) -> None:
        """Count in another version's bins from now on."""
        self._reference = live.reference

    def forget_features(self) -> None:
        """Forget all counts."""
        self._counts.clear()

    def add_features(self, rows: FeatureRows, fresh: Mask) -> None:
        """Count rows in the reference's bins, per step, all and (where declared) per group."""
        if self._reference is None or not fresh.any():
            return
        starts = step_starts(rows.event_times_ms, self._counts.step_ms)
        for start in np.unique(starts[fresh]).tolist():
            chosen = fresh & (starts == start)
            self._count("", rows, chosen, start)
            for group, members in self._members(rows, chosen):
                self._count(group, rows, members, start)

    def close(self, live: LiveModel, end_ms: int) -> list[Finding]:
        """Return the figures of each feature over the window that ends at ``end_ms``.

        Nothing is returned where no model is live or the window has fewer than ``minimum`` events;
        a group is compared with its own events of training, where the package has them.
        """
        reference = live.reference
        if reference is None:
            return []
        window = Window(end_ms - self._length_ms, end_ms)
        findings = list(self._compared("", reference, live.version, window))
        for group, own in reference.groups.items() if self._monitor.by_group else ():
            findings += self._compared(group, own, live.version, window)
        return findings

    def forget(self, before_ms: int) -> None:
        """Forget old steps."""
        self._counts.drop_before(before_ms)

    def snapshot(self) -> tuple[Any, Mapping[str, NDArray[Any]]]:
        """Return (JSON, arrays)."""
        return pack(self._counts, "counts")

    def load(self, content: Any, arrays: Mapping[str, NDArray[Any]], /) -> None:
        """Take over a snapshot."""
        self._counts = unpack(self._counts.step_ms, content, arrays, "counts")

    # Inside

    def _count(self, group: str, rows: FeatureRows, chosen: Mask, start_ms: int) -> None:
        if self._reference is not None:
            counted = self._reference.fine_counts(_part(rows, chosen), self._monitor.features)
            for name, counts in counted.items():
                self._counts.add_total(_key(group, name), start_ms, counts)

    def _members(self, rows: FeatureRows, chosen: Mask) -> Iterator[tuple[str, Mask]]:
        """Yield the groups that have a reference, however many others there are."""
        if not self._monitor.by_group or self._reference is None:
            return
        for field, texts in zip(self._groups.fields, rows.groups, strict=True):
            known = {f"{field}={text}": text for text in set(texts)}
            column = np.array(texts)
            for group in sorted(known.keys() & self._reference.groups.keys()):
                members = chosen & (column == known[group])
                if members.any():
                    yield group, members

    def _compared(
        self, group: str, reference: Reference, version: int, window: Window
    ) -> Iterator[Finding]:
        wanted = reference.names if self._monitor.features is None else self._monitor.features
        enough = {}
        for name in wanted:
            found = self._counts.window(_key(group, name), window.start_ms, window.end_ms)
            known = name in reference.fine_expected
            if found is not None and known and found.sum() >= self._monitor.minimum:
                enough[name] = found
        for drift in compare_all(reference, enough, self._length_ms):
            name = drift.feature
            yield from findings_of(
                drift,
                kind="data_drift",
                threshold=self._monitor.threshold,
                window=window,
                version=version,
                observed=reference.coarse(name, enough[name]),
                onset=partial(self._onset, group, reference, name, window),
                group=group or None,
            )

    def _onset(self, group: str, reference: Reference, name: str, window: Window) -> Onset | None:
        starts, fine = self._counts.steps(_key(group, name), window.start_ms, window.end_ms)
        return onset_of(reference.expected[name], starts, reference.coarse(name, fine))


def _key(group: str, feature: str) -> str:
    return f"{group}|{feature}"


def _part(rows: FeatureRows, chosen: Mask) -> Part:
    if chosen.all():
        return Part(rows.numeric, rows.categories)
    kept = chosen.tolist()
    return Part(rows.numeric[chosen], [list(compress(column, kept)) for column in rows.categories])
