"""From declarations to watches."""

from __future__ import annotations

from serving.monitoring.drift_watch import DataDriftWatch
from serving.monitoring.groups import Groups
from serving.monitoring.performance_watch import PerformanceWatch
from serving.monitoring.watch import Watch
from serving.spec import DataDrift, Monitor, Performance
from streams.errors import DefinitionError
from training.networks.tasks import Task


def watch_of(declaration: Monitor, task: Task, step_ms: int, groups: Groups) -> Watch:
    """Return the watch that a declaration stands for.

    ``groups`` are the live definition's; its fields may change.

    Raises:
        DefinitionError: the declaration can't be watched of models of this task.
    """
    match declaration:
        case DataDrift():
            return DataDriftWatch(declaration, step_ms)
        case Performance():
            return PerformanceWatch(declaration, task, step_ms, groups)
        case _:
            raise DefinitionError(f"{type(declaration).__name__} can't be watched yet")
