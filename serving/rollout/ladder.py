"""The fold: outcomes and the control log → what is known of each version on its way.

Which stage an answer belongs to is said by the log: a prediction carries its version and stage, and
the ``activated`` records say from which offsets of the features topic a routing answered. So an
outcome counts the same whenever it is read. Outcomes without a place in the features topic (over
HTTP) are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.rollout.declared import RolloutPolicy
from serving.rollout.labelled import Labelled
from serving.rollout.pairing import Pairing, keys_of
from serving.rollout.rows import GroupCodes, RowMaker, Rows
from serving.rollout.trial import Trial
from streams.rollout import Rollout
from streams.wire import Activated, ModelEvent, Outcome, Stage, StageChanged
from training.networks.tasks import Task

LABELLED_BINS = 32
"""The bins of event time in which labels are counted, to the longest that a stage may last."""

_LIVE_PATH = ("live", "canary", "experiment")
_STAGES = {"live": 0, "shadow": 1, "canary": 2, "experiment": 3}
_OTHER = 9

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Columns:
    """What decides where an outcome counts, (n,); places are −1 where it has none."""

    version: Ints
    stage: Ints
    definition: Ints
    partition: Ints
    offset: Ints
    event_ms: Ints
    label_ms: Ints

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> _Columns:
        none = -1
        rows = [
            (
                o.model_version,
                _STAGES.get(o.stage, _OTHER),
                o.definition,
                none if o.features_partition is None else o.features_partition,
                none if o.features_offset is None else o.features_offset,
                o.event_time_ms,
                o.label_time_ms,
            )
            for o in outcomes
        ]
        return cls(*np.array(rows, np.int64).reshape(len(rows), 7).T)

    def since(self, begins: dict[int, int], unknown: int | None) -> NDArray[np.bool_]:
        """Return which stand at or behind ``begins``; ``unknown`` begins what is not in it."""
        never = np.iinfo(np.int64).max if unknown is None else unknown
        found = {p: begins.get(p, never) for p in np.unique(self.partition).tolist()}
        first = np.array([found[p] for p in self.partition.tolist()], np.int64)
        return (self.offset >= 0) & (self.offset >= first)


@dataclass
class Ladder:
    """The versions on their way, by version. Call :meth:`follow` before :meth:`fold`.

    ``owners`` says who put a version into its stage; ``codes`` number the values of groups.
    """

    policy: RolloutPolicy
    task: Task
    group_fields: int = 0
    rollout: Rollout = field(default_factory=Rollout)
    trials: dict[int, Trial] = field(default_factory=dict)
    pairing: dict[int, Pairing] = field(default_factory=dict)
    codes: GroupCodes = field(default_factory=GroupCodes)
    owners: dict[int, str] = field(default_factory=dict)
    _begins: dict[tuple[int, float], dict[int, int]] = field(default_factory=dict)

    def follow(self, events: Iterable[ModelEvent]) -> None:
        """Take events of the control log, in its order."""
        for event in events:
            before, self.rollout = self.rollout, self.rollout.apply(event)
            match event:
                case StageChanged() if self.rollout is not before:
                    self.owners[event.version] = event.by
                case Activated(stage="live", routing=routing) if routing is not None:
                    for arm in routing.arms:
                        begins = self._begins.setdefault((arm.version, arm.share), {})
                        begins |= {int(p): offset for p, offset in event.positions.items()}
                case _:
                    pass
        self._settle()

    def fold(self, outcomes: Sequence[Outcome]) -> None:
        """Count outcomes, in the order of their log; how they are cut makes no difference."""
        if not self.trials or not outcomes:
            return
        columns = _Columns.of(outcomes)
        maker = RowMaker(self.task, self.policy.metric, self.codes, self.group_fields)
        rows = maker.of(outcomes)
        for trial in self.trials.values():
            self._count(trial, columns, rows)

    def _count(self, trial: Trial, columns: _Columns, rows: Rows) -> None:
        mine = columns.definition == trial.definition
        is_live = mine & (columns.stage == _STAGES["live"]) & (columns.version == trial.live)
        its_own = mine & (columns.version == trial.version)
        in_shadow = its_own & (columns.stage == _STAGES["shadow"])
        in_canary = its_own & (columns.stage == _STAGES["canary"])
        since = columns.since(trial.since, unknown=0)
        paired = since & (is_live | in_shadow)
        if paired.any():
            keys = keys_of(columns.partition, columns.offset)[paired]
            found = self.pairing[trial.version].match(keys, in_shadow[paired], rows.at(paired))
            if found is not None:
                trial.add_pairs(*found)
        path = np.isin(columns.stage, [_STAGES[stage] for stage in _LIVE_PATH])
        answered = mine & since & path
        trial.labelled.add(
            columns.partition[answered],
            columns.offset[answered],
            columns.event_ms[answered],
            columns.label_ms[answered],
        )
        if trial.stage == "shadow":
            trial.pass_time(columns.event_ms[answered])
            return
        begun = columns.since(trial.begins, unknown=None)
        side_by_side = begun & (is_live | in_canary)
        trial.add_arms(rows.at(side_by_side), in_canary[side_by_side])
        trial.pass_time(columns.event_ms[begun & mine & path])

    def _settle(self) -> None:
        """Bring the trials to what the control log says."""
        rollout = self.rollout
        on_way = [v for v, stage in rollout.stages.items() if self._is_on_its_way(v, stage)]
        kept: dict[int, Trial] = {}
        for version in sorted(on_way):
            definition = rollout.versions[version].definition
            routing = rollout.routing(definition)
            trial = self.trials.get(version)
            since = {int(p): offset for p, offset in rollout.shadows.get(version, {}).items()}
            if (
                trial is None
                or trial.live != routing.live
                or (version in rollout.shadows and trial.since != since)
            ):
                labelled = Labelled(max(1, self.policy.longest_ms // LABELLED_BINS), dict(since))
                trial = Trial(version, routing.live, definition, labelled, since)
                self.pairing[version] = Pairing()
            share = next((arm.share for arm in routing.arms if arm.version == version), 0.0)
            if trial.share != share:
                trial.enter(share)
            trial.begins = self._begins.get((version, share), {})
            kept[version] = trial
        self.trials = kept
        self.pairing = {v: self.pairing.setdefault(v, Pairing()) for v in kept}

    def _is_on_its_way(self, version: int, stage: Stage) -> bool:
        """Whether a version is to be judged: one that was live before and goes on in shadow is
        there for comparison, unless the operator has put it there."""
        definition = self.rollout.versions[version].definition
        was_live = version in self.rollout.before.get(definition, ())
        if stage == "shadow" and was_live:
            return self.owners.get(version) == "operator"
        return stage in ("shadow", "canary")
