"""What the monitor knows: a fold over features, predictions, labels and commands. Pure.

Nothing in it depends on the interleaving of the inputs or on where batches are cut, as long as a
step is closed only after the records that belong to it were added.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.records import FeatureRows
from serving.monitoring.judging import (
    Excursions,
    Finding,
    LiveModel,
    judge_drift,
    judge_performance,
    performance_key,
)
from serving.monitoring.label_records import LabelRows
from serving.monitoring.matching import Matcher, Matches, Orphan
from serving.monitoring.schedule import Decision, decide
from serving.monitoring.told import can_be_scored, width
from serving.monitoring.windows import StepSums, check_window, step_starts
from serving.performance.figures import contributions
from serving.spec import DataDrift, Monitor, Performance
from streams.durations import seconds
from training.networks.tasks import Binary, Task
from training.reference import Reference
from training.spec import Training

MATCH_HORIZON_MS = 60 * 86_400_000
"""How long of event time an unanswered prediction waits for its label."""

Ints = NDArray[np.int64]
_BINARY = Binary()


@dataclass(frozen=True)
class Part:
    """The model inputs of some rows; satisfies :class:`training.dataset.prepared.Columns`."""

    numeric: NDArray[np.float64]
    categories: list[list[str]]


@dataclass(frozen=True)
class Closing:
    """What closing a step came to: all figures, those that begin an excursion, what to do."""

    end_ms: int
    findings: list[Finding]
    begun: list[Finding]
    decision: Decision
    orphans: list[Orphan]


class MonitorState:
    """The fold. ``group_fields`` are the definition's groups, ``step_ms`` the pipeline's step,
    ``task`` what its models answer."""

    def __init__(
        self,
        monitors: Sequence[Monitor],
        training: Training,
        group_fields: Sequence[str],
        step_ms: int,
        lateness_ms: int,
        task: Task = _BINARY,
    ) -> None:
        self.monitors, self.training, self.task = tuple(monitors), training, task
        self.step_ms, self.lateness_ms = step_ms, lateness_ms
        lengths = [check_window(seconds(m.window) * 1000, step_ms) for m in self.monitors]
        self.reach_ms = max([*lengths, step_ms])
        self.group_fields = tuple(group_fields)
        self.group_codes: list[dict[str, int]] = [{} for _ in self.group_fields]
        self.matcher = Matcher(len(self.group_fields), MATCH_HORIZON_MS, width(task))
        self.scores = StepSums(step_ms)
        self.counts = StepSums(step_ms)
        self.counted_version = 0
        self.excursions = Excursions()
        self.first_offsets: dict[int, dict[int, int]] = {}
        self.last_source: dict[int, int] = {}
        self.first_step_ms: int | None = None
        self.closed_ms: int | None = None
        self.last_cutoff_ms: int | None = None
        self._reference: Reference | None = None

    # Inputs

    def add_features(self, rows: FeatureRows, offsets: Ints) -> None:
        """Take feature records, which stand at ``offsets`` (n,) of their topic's partition."""
        if not len(rows):
            return
        times = rows.event_times_ms
        self.matcher.add_groups(rows.event_ids, self._codes(rows), times)
        self._settle()
        first = int(step_starts(times, self.step_ms).min())
        if self.closed_ms is None:
            known = self.first_step_ms
            self.first_step_ms = first if known is None else min(known, first)
        self._note_offsets(rows.partition, times, offsets)
        self._count(rows, self.last_source)

    def add_predictions(
        self,
        event_ids: list[str],
        scores: NDArray[np.float64],
        versions: Ints,
        event_times_ms: Ints,
    ) -> None:
        """Take predictions; the sequences are equally long. See :mod:`serving.monitoring.told`."""
        self.matcher.add_answers(event_ids, scores, versions, event_times_ms)
        self._settle()

    def add_labels(self, rows: LabelRows, partition: int) -> NDArray[np.bool_]:
        """Take labels of one partition and return which of them are duplicates, shape (n,)."""
        duplicates = self.matcher.add_labels(
            rows.event_ids, rows.labels, rows.times_ms, partition, rows.offsets
        )
        self._settle()
        return duplicates

    def note_training(self, cutoff_ms: int) -> None:
        """Take that a training with this cut-off was asked for, by anyone."""
        self.last_cutoff_ms = max(cutoff_ms, self.last_cutoff_ms or cutoff_ms)

    # The reference of the live model

    def use_reference(self, version: int, reference: Reference | None) -> None:
        """Set the bins for what is added from now on."""
        self._reference = reference
        self.counted_version = version

    def recount(self, version: int, reference: Reference, rows: Iterable[FeatureRows]) -> None:
        """Count again, in another model's bins; ``rows`` are the records from
        :meth:`recount_from` to where reading stands, each partition in log order."""
        self.use_reference(version, reference)
        self.counts.clear()
        last_source: dict[int, int] = {}
        for part in rows:
            self._count(part, last_source)

    def recount_from(self) -> dict[int, int]:
        """Return partition → first offset of the features topic that a recount must read."""
        first: dict[int, int] = {}
        for by_partition in self.first_offsets.values():
            for partition, offset in by_partition.items():
                first[partition] = min(offset, first.get(partition, offset))
        return first

    # The definition of the features

    def change_features(self, group_fields: Sequence[str]) -> int:
        """Forget what was counted of the features: another definition's follow.

        Returns the event time, milliseconds since the epoch, from which on they must be added, each
        partition in log order: all that a window can still reach, and where the definition has
        other groups, all events whose label may still come.
        """
        self.counts.clear()
        self.first_offsets, self.last_source = {}, {}
        self.use_reference(0, None)
        from_ms = self._retained_from_ms()
        if tuple(group_fields) != self.group_fields:
            self.group_fields = tuple(group_fields)
            self.group_codes = [{} for _ in self.group_fields]
            self.matcher.regroup(len(self.group_fields))
            self._settle()
            from_ms = None if self.closed_ms is None else self.closed_ms - MATCH_HORIZON_MS
        return 0 if from_ms is None else max(0, from_ms)

    # Closing

    def next_end_ms(self) -> int | None:
        """Return the end of the step that closes next, or None before the first event."""
        if self.closed_ms is not None:
            return self.closed_ms + self.step_ms
        return None if self.first_step_ms is None else self.first_step_ms + self.step_ms

    def close(self, live: LiveModel) -> Closing:
        """Close the next step: judge the windows that end there, and decide on retraining."""
        end_ms = self.next_end_ms()
        if end_ms is None or self.first_step_ms is None:
            raise ValueError("no event was added yet, so no step can close")
        findings: list[Finding] = []
        for monitor in self.monitors:
            if isinstance(monitor, DataDrift):
                findings += judge_drift(monitor, live, self.counts, end_ms)
            elif isinstance(monitor, Performance):
                findings += judge_performance(monitor, live, self.scores, end_ms, self.task)
        begun = self.excursions.update(findings)
        decision = decide(
            self.training,
            end_ms=end_ms,
            first_step_ms=self.first_step_ms,
            last_cutoff_ms=self.last_cutoff_ms,
            model_exists=live.version > 0,
            alert_cause=_cause(begun or [f for f in findings if f.cause is not None]),
        )
        if decision.reason is not None:
            self.note_training(end_ms)
        self.closed_ms = end_ms
        self._forget(end_ms)
        orphans = self.matcher.expire(end_ms, self.lateness_ms)
        return Closing(end_ms, findings, begun, decision, orphans)

    # Snapshot

    def to_snapshot(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return (JSON part, arrays); the live model's reference is not part of it."""
        content = {
            "group_codes": [list(codes) for codes in self.group_codes],
            "scores": self.scores.to_json(),
            "counts": self.counts.to_json(),
            "counted_version": self.counted_version,
            "excursions": sorted(self.excursions.standing),
            "first_offsets": [
                [at, *o] for at, by in self.first_offsets.items() for o in by.items()
            ],
            "last_source": list(self.last_source.items()),
            "first_step_ms": self.first_step_ms,
            "closed_ms": self.closed_ms,
            "last_cutoff_ms": self.last_cutoff_ms,
        }
        return content, self.matcher.snapshot()

    def load_snapshot(self, content: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        """Take over what :meth:`to_snapshot` described, with the same declarations."""
        self.group_codes = [
            {text: code for code, text in enumerate(texts)} for texts in content["group_codes"]
        ]
        self.matcher = Matcher.restore(
            len(self.group_fields), MATCH_HORIZON_MS, arrays, width(self.task)
        )
        self.scores = StepSums.from_json(self.step_ms, content["scores"])
        self.counts = StepSums.from_json(self.step_ms, content["counts"])
        self.counted_version = content["counted_version"]
        self.excursions = Excursions(content["excursions"])
        for at, partition, offset in content["first_offsets"]:
            self.first_offsets.setdefault(at, {})[partition] = offset
        self.last_source = dict(content["last_source"])
        self.first_step_ms = content["first_step_ms"]
        self.closed_ms = content["closed_ms"]
        self.last_cutoff_ms = content["last_cutoff_ms"]

    # Inside

    def _retained_from_ms(self) -> int | None:
        """Return the start of the oldest step that a window can still reach."""
        return None if self.closed_ms is None else self.closed_ms + self.step_ms - self.reach_ms

    def _forget(self, end_ms: int) -> None:
        before = end_ms + self.step_ms - self.reach_ms
        self.scores.drop_before(before)
        self.counts.drop_before(before)
        self.first_offsets = {at: o for at, o in self.first_offsets.items() if at >= before}

    def _settle(self) -> None:
        matches = self.matcher.take_matches()
        matches = matches.only(can_be_scored(matches.scores))
        if not len(matches):
            return
        rows = contributions(matches.scores, matches.labels, self.task)
        for version in np.unique(matches.versions).tolist():
            chosen = np.flatnonzero(matches.versions == version)
            self.scores.add(performance_key(version), matches.label_times_ms[chosen], rows[chosen])
            self._settle_groups(version, matches, rows, chosen)

    def _settle_groups(self, version: int, matches: Matches, rows: Ints, chosen: Ints) -> None:
        for i, (field, codes) in enumerate(zip(self.group_fields, self.group_codes, strict=True)):
            texts = list(codes)
            column = matches.groups[chosen, i]
            for code in np.unique(column).tolist():
                members = chosen[column == code]
                key = performance_key(version, f"{field}={texts[code]}")
                self.scores.add(key, matches.label_times_ms[members], rows[members])

    def _codes(self, rows: FeatureRows) -> Ints:
        coded = np.zeros((len(rows), len(self.group_fields)), dtype=np.int64)
        for i, (texts, codes) in enumerate(zip(rows.groups, self.group_codes, strict=True)):
            for text in set(texts).difference(codes):
                codes[text] = len(codes)
            coded[:, i] = np.fromiter(map(codes.__getitem__, texts), np.int64, len(texts))
        return coded

    def _note_offsets(self, partition: int, times_ms: Ints, offsets: Ints) -> None:
        """Remember per step where its first record stands, for a recount."""
        retained = self._retained_from_ms()
        starts, first = np.unique(step_starts(times_ms, self.step_ms), return_index=True)
        for start, row in zip(starts.tolist(), first.tolist(), strict=True):
            if retained is None or start >= retained:
                self.first_offsets.setdefault(start, {}).setdefault(partition, int(offsets[row]))

    def _count(self, rows: FeatureRows, last_source: dict[int, int]) -> None:
        """Count rows in the reference's bins, per step; repeats by source offset are left out."""
        seen = last_source.get(rows.partition, -1)
        before = np.concatenate([[seen], np.maximum.accumulate(rows.source_offsets)[:-1]])
        fresh = rows.source_offsets > np.maximum(before, seen)
        last_source[rows.partition] = max(seen, int(rows.source_offsets.max(initial=-1)))
        if self._reference is None:
            return
        retained = self._retained_from_ms()
        starts = step_starts(rows.event_times_ms, self.step_ms)
        for start in np.unique(starts).tolist():
            if retained is not None and start < retained:
                continue
            part = _part(rows, fresh & (starts == start))
            for name, counts in self._reference.counts(part).items():
                self.counts.add_total(name, start, counts)


def _part(rows: FeatureRows, chosen: NDArray[np.bool_]) -> Part:
    if chosen.all():
        return Part(rows.numeric, rows.categories)
    kept = chosen.tolist()
    return Part(rows.numeric[chosen], [list(compress(column, kept)) for column in rows.categories])


def _cause(findings: Sequence[Finding]) -> str | None:
    causes = [finding.cause for finding in findings if finding.cause is not None]
    if not causes:
        return None
    more = f" (and {len(causes) - 1} more)" if len(causes) > 1 else ""
    return causes[0] + more
