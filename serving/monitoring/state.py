"""What the monitor knows: a fold over features, predictions, labels and commands. Pure.

Nothing in it depends on the interleaving of the inputs or on where batches are cut, as long as a
step is closed only after the records that belong to it were added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.records import FeatureRows
from serving.alerting.alarms import Alarms
from serving.alerting.declared import Alerting
from serving.alerting.finding import Finding
from serving.alerting.grouping import Told
from serving.monitoring.first_offsets import FirstOffsets
from serving.monitoring.groups import Groups
from serving.monitoring.judging import LiveModel
from serving.monitoring.label_records import LabelRows
from serving.monitoring.matching import Matcher
from serving.monitoring.orphans import Orphan, Patience
from serving.monitoring.schedule import Decision, decide, retraining_cause
from serving.monitoring.told import can_be_scored, width
from serving.monitoring.watch import Answered
from serving.monitoring.watches import watch_of
from serving.monitoring.windows import check_window, step_starts
from serving.spec import Monitor
from streams.durations import seconds
from streams.wire import Onset
from training.networks.tasks import Binary, Task
from training.spec import Training

MATCH_HORIZON_MS = 60 * 86_400_000
"""How long of event time an unanswered prediction waits for its label."""

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
_BINARY = Binary()


@dataclass(frozen=True)
class Closing:
    """What closing a step came to: all figures, what is told of alerts, what to do."""

    end_ms: int
    findings: list[Finding]
    told: list[Told]
    decision: Decision
    orphans: list[Orphan]


class MonitorState:
    """The fold. ``group_fields`` are the definition's groups, ``step_ms`` the pipeline's step,
    ``task`` what its models answer, ``alerting`` how sure alerts are."""

    def __init__(
        self,
        monitors: Sequence[Monitor],
        training: Training,
        group_fields: Sequence[str],
        step_ms: int,
        lateness_ms: int,
        task: Task = _BINARY,
        alerting: Alerting | None = None,
    ) -> None:
        self.monitors, self.training, self.task = tuple(monitors), training, task
        self.alerting = Alerting() if alerting is None else alerting
        self.step_ms, self.lateness_ms = step_ms, lateness_ms
        lengths = [check_window(seconds(m.window) * 1000, step_ms) for m in self.monitors]
        self.reach_ms = max([*lengths, step_ms])
        self.groups = Groups(group_fields)
        self._patience = Patience(step_ms, lateness_ms)
        self.matcher = Matcher(
            len(self.groups.fields), MATCH_HORIZON_MS, self._patience, width(task)
        )
        self.alarms = Alarms(self.alerting, step_ms)
        self.watches = [
            watch_of(m, task, step_ms, self.groups, self.alarms.level) for m in self.monitors
        ]
        self.counted_version = 0
        self.first_features, self.first_labels = FirstOffsets(step_ms), FirstOffsets(step_ms)
        self.last_source: dict[int, int] = {}
        self.first_step_ms: int | None = None
        self.closed_ms: int | None = None
        self.last_cutoff_ms: int | None = None

    # Inputs

    def add_features(self, rows: FeatureRows, offsets: Ints) -> None:
        """Take feature records, which stand at ``offsets`` (n,) of their topic's partition."""
        if not len(rows):
            return
        times = rows.event_times_ms
        self.matcher.add_groups(rows.event_ids, self.groups.code(rows), times)
        self._settle()
        first = int(step_starts(times, self.step_ms).min())
        if self.closed_ms is None:
            known = self.first_step_ms
            self.first_step_ms = first if known is None else min(known, first)
        self.first_features.note(rows.partition, times, offsets, self._retained_from_ms())
        self._count(rows, self.last_source)

    def add_predictions(
        self,
        event_ids: list[str],
        scores: NDArray[np.float64],
        versions: Ints,
        event_times_ms: Ints,
    ) -> None:
        """Take predictions; the sequences are equally long. See :mod:`serving.monitoring.told`."""
        if not event_ids:
            return
        self.matcher.add_answers(event_ids, scores, versions, event_times_ms)
        answered = Answered(scores, versions, event_times_ms)
        answered = answered.only(can_be_scored(scores) & self._reached(event_times_ms))
        for watch in self.watches:
            watch.add_answers(answered)
        self._settle()

    def add_labels(self, rows: LabelRows, partition: int) -> NDArray[np.bool_]:
        """Take labels of one partition and return which of them are duplicates, shape (n,)."""
        duplicates = self.matcher.add_labels(
            rows.event_ids, rows.labels, rows.times_ms, partition, rows.offsets
        )
        self.first_labels.note(partition, rows.times_ms, rows.offsets, self.closed_ms)
        self._settle()
        return duplicates

    def note_training(self, cutoff_ms: int) -> None:
        """Take that a training with this cut-off was asked for, by anyone."""
        self.last_cutoff_ms = max(cutoff_ms, self.last_cutoff_ms or cutoff_ms)

    # The live model

    def use(self, live: LiveModel) -> None:
        """Another version is live, or the same after a restart: judge in its bins from now on."""
        self.counted_version = live.version
        for watch in self.watches:
            watch.use(live)

    def recount(self, live: LiveModel, rows: Iterable[FeatureRows]) -> None:
        """Count again, in another model's bins; ``rows`` are the records from
        :meth:`recount_from` to where reading stands, each partition in log order."""
        self.use(live)
        for watch in self.watches:
            watch.forget_features()
        last_source: dict[int, int] = {}
        for part in rows:
            self._count(part, last_source)

    def recount_from(self) -> dict[int, int]:
        """Return partition → first offset of the features topic that a recount must read."""
        return self.first_features.earliest()

    # The definition of the features

    def change_features(self, group_fields: Sequence[str]) -> int:
        """Forget what was counted of the features: another definition's follow.

        Returns the event time, milliseconds since the epoch, from which on they must be added, each
        partition in log order: all that a window can still reach, and where the definition has
        other groups, all events whose label may still come.
        """
        for watch in self.watches:
            watch.forget_features()
        self.first_features.clear()
        self.last_source = {}
        self.use(LiveModel())
        from_ms = self._retained_from_ms()
        if tuple(group_fields) != self.groups.fields:
            self.groups.reset(group_fields)
            self.matcher.regroup(len(self.groups.fields))
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
        findings = [finding for watch in self.watches for finding in watch.close(live, end_ms)]
        raised = self.alarms.close(findings, end_ms)
        decision = decide(
            self.training,
            end_ms=end_ms,
            first_step_ms=self.first_step_ms,
            last_cutoff_ms=self.last_cutoff_ms,
            model_exists=live.version > 0,
            alert_cause=retraining_cause(self.alerting.policies, raised),
        )
        if decision.reason is not None:
            self.note_training(end_ms)
        told = [replace(each, lead=self._placed(each.lead)) for each in raised.told]
        self.closed_ms = end_ms
        self._forget(end_ms)
        orphans = self.matcher.expire(end_ms)
        return Closing(end_ms, raised.findings, told, decision, orphans)

    # Snapshot

    def to_snapshot(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return (JSON part, arrays); the live model's reference is not part of it."""
        watches = [watch.snapshot() for watch in self.watches]
        content = {
            "groups": self.groups.to_json(),
            "watches": [kept for kept, _ in watches],
            "alarms": self.alarms.to_json(),
            "counted_version": self.counted_version,
            "first_features": self.first_features.to_json(),
            "first_labels": self.first_labels.to_json(),
            "last_source": list(self.last_source.items()),
            "first_step_ms": self.first_step_ms,
            "closed_ms": self.closed_ms,
            "last_cutoff_ms": self.last_cutoff_ms,
        }
        arrays = self.matcher.snapshot()
        for i, (_, own) in enumerate(watches):
            arrays |= {f"watch{i}/{name}": array for name, array in own.items()}
        return content, arrays

    def load_snapshot(self, content: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        """Take over what :meth:`to_snapshot` described, with the same declarations."""
        self.groups.load(content["groups"])
        self.matcher = Matcher.restore(
            len(self.groups.fields), MATCH_HORIZON_MS, self._patience, arrays, width(self.task)
        )
        for i, (watch, kept) in enumerate(zip(self.watches, content["watches"], strict=True)):
            watch.load(kept, _under(f"watch{i}/", arrays))
        self.alarms.load(content["alarms"])
        self.counted_version = content["counted_version"]
        self.first_features.load(content["first_features"])
        self.first_labels.load(content["first_labels"])
        self.last_source = dict(content["last_source"])
        self.first_step_ms = content["first_step_ms"]
        self.closed_ms = content["closed_ms"]
        self.last_cutoff_ms = content["last_cutoff_ms"]

    # Inside

    def _retained_from_ms(self) -> int | None:
        """Return the start of the oldest step that a window can still reach."""
        return None if self.closed_ms is None else self.closed_ms + self.step_ms - self.reach_ms

    def _reached(self, event_times_ms: Ints) -> Mask:
        """Return which records some window can still reach, (n,)."""
        retained = self._retained_from_ms()
        return event_times_ms >= (np.iinfo(np.int64).min if retained is None else retained)

    def _forget(self, end_ms: int) -> None:
        before = end_ms + self.step_ms - self.reach_ms
        for watch in self.watches:
            watch.forget(before)
        self.first_features.forget(before)
        self.first_labels.forget(end_ms)

    def _placed(self, finding: Finding) -> Finding:
        """Return the finding with the place of its onset: the step's first feature record in the
        lowest partition that has one."""
        onset = finding.onset
        first = {} if onset is None else self.first_features.of_step(onset.time_ms)
        if onset is None or not first or onset.offset is not None:
            return finding
        partition = min(first)
        return replace(finding, onset=Onset(onset.time_ms, partition, first[partition]))

    def _settle(self) -> None:
        matches = self.matcher.take_matches()
        matches = matches.only(can_be_scored(matches.scores))
        if len(matches):
            for watch in self.watches:
                watch.add_matches(matches)

    def _count(self, rows: FeatureRows, last_source: dict[int, int]) -> None:
        """Hand rows to the watches; repeats by source offset are none of them."""
        seen = last_source.get(rows.partition, -1)
        before = np.concatenate([[seen], np.maximum.accumulate(rows.source_offsets)[:-1]])
        fresh = rows.source_offsets > np.maximum(before, seen)
        last_source[rows.partition] = max(seen, int(rows.source_offsets.max(initial=-1)))
        fresh &= self._reached(rows.event_times_ms)
        for watch in self.watches:
            watch.add_features(rows, fresh)


def _under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    found = {name: array for name, array in arrays.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): array for name, array in found.items()}
