"""From declarations to watches."""

from __future__ import annotations

from serving.concept.watch import ConceptWatch
from serving.fairness.watch import FairnessWatch
from serving.monitoring.drift_watch import DataDriftWatch
from serving.monitoring.groups import Groups
from serving.monitoring.prediction_watch import PredictionDriftWatch
from serving.monitoring.watch import Watch
from serving.performance.watch import PerformanceWatch
from serving.spec import (
    ConceptDrift,
    DataDrift,
    Fairness,
    Monitor,
    Performance,
    PredictionDrift,
)
from training.networks.tasks import Task


def watch_of(declaration: Monitor, task: Task, step_ms: int, groups: Groups, level: float) -> Watch:
    """Return the watch that a declaration stands for.

    ``groups`` are the live definition's; its fields may change. ``level`` is how often one closing
    may be a false alarm.

    Raises:
        DefinitionError: the declaration can't be watched of models of this task.
    """
    match declaration:
        case DataDrift():
            return DataDriftWatch(declaration, step_ms, groups)
        case PredictionDrift():
            return PredictionDriftWatch(declaration, task, step_ms)
        case Performance():
            return PerformanceWatch(declaration, task, step_ms, groups)
        case Fairness():
            return FairnessWatch(declaration, task, step_ms, groups)
        case ConceptDrift():
            return ConceptWatch(declaration, task, step_ms, level)
