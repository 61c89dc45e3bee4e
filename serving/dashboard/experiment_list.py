"""Experiments: a fold over the control log; and what one shows, read from its outcomes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from serving.dashboard.documents.rollout import (
    Arm,
    CoursePoint,
    Experiment,
    ExperimentFindings,
    Experiments,
)
from serving.rollout.status import Logged
from streams.wire import ExperimentStarted, ExperimentStopped

if TYPE_CHECKING:
    from serving.experiments.findings import Findings
    from serving.experiments.reading import Readings

KEPT = 100


class ExperimentList:
    """Experiments by name."""

    def __init__(self) -> None:
        self.revision = 0
        self._found: dict[str, Experiment] = {}

    def take(self, logged: Logged) -> None:
        """Add a record of the control log that counts; others than experiments say nothing."""
        match logged.event:
            case ExperimentStarted() as event:
                arms = [Arm(arm.version, arm.stage, arm.share) for arm in event.arms]
                self._found[event.name] = Experiment(
                    event.name, event.definition, event.control, arms, event.plan, event.reason,
                    logged.time_ms, None, None, None,
                )  # fmt: skip
                if len(self._found) > KEPT:
                    del self._found[next(iter(self._found))]
                self.revision += 1
            case ExperimentStopped() as event if event.name in self._found:
                s = self._found[event.name]
                self._found[event.name] = Experiment(
                    s.name, s.definition, s.control, s.arms, s.plan, s.reason, s.started_ms,
                    logged.time_ms, event.reason, event.evidence,
                )  # fmt: skip
                self.revision += 1

    def whole(self) -> Experiments:
        """Return them, the running ones first, then the newest."""
        found = sorted(
            self._found.values(), key=lambda e: (e.stopped_ms is not None, -e.started_ms)
        )
        return Experiments(revision=self.revision, experiments=found)


def findings_document(
    name: str, versions: list[int], readings: Readings, found: Findings
) -> ExperimentFindings:
    """Return what an experiment shows, as a document; ``versions`` are those of the treatments."""
    from serving.experiments.findings import to_json  # scipy: half of the dashboard's start

    course = [
        CoursePoint(
            moment.time_ms,
            version,
            _finite(effect.difference.mean),
            _finite(effect.sequential.low),
            _finite(effect.sequential.high),
        )
        for moment in found.course
        for version, effect in zip(versions, moment.effects, strict=True)
    ]
    return ExperimentFindings(
        name, found.verdict.kind, found.verdict.reason, found.verdict.winner, found.reached,
        readings.outcomes, readings.days, [int(n) for n in found.soundness.counts],
        to_json(found)["effects"], course,
    )  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
