"""Answers to Retrain commands, in the control log: each command gets one, whatever happens.

An answer is ``registered`` and ``stage: live``, or ``refused``. A crash between the first two
leaves a half answer, which is completed where the command comes again.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from streams.control import ControlWriter
from streams.rollout import Rollout
from streams.wire import Registered, Retrain, StageChanged, TrainingRefused
from training.retraining.comparison import Comparison, Policy, objection
from training.retraining.gate import refusal
from training.retraining.job import TrainedModel
from training.retraining.registering import Registry
from training.tracking.runs import Run, Tracker

TRACKING_PATIENCE_S = 5.0
_LOG = structlog.get_logger(role="trainer")


class Answers:
    """Writes the answers of one pipeline, with what MLflow is told of each."""

    def __init__(self, bootstrap: str, topic: str, tracker: Tracker) -> None:
        self._topic, self._tracker = topic, tracker
        self._registry = Registry(bootstrap, topic)
        self._writer = ControlWriter(bootstrap)

    @property
    def rollout(self) -> Rollout:
        """What the control log said when it was last read."""
        return self._registry.rollout

    def stands(self, command: Retrain) -> bool:
        """Read the log; return whether it has the answer to ``command``, completing a half one."""
        rollout = self._registry.follow()
        if command.command_id in rollout.answered_commands:
            return True
        begun = [v for v in rollout.versions.values() if v.command_id == command.command_id]
        if begun:
            self._put_live(begun[-1], command)
        return bool(begun)

    def give(self, command: Retrain, run: Run, trained: TrainedModel, policy: Policy) -> None:
        """Register the model and put it live, or say why not."""
        if command.command_id in self._registry.follow().answered_commands:
            return  # by another trainer, while this one had lost the partition
        reason = refusal(trained.metrics) or objection(trained.comparison, policy)
        if reason is not None:
            self._tracker.finish(run, trained, None)
            self.refuse(command, None, reason)
            return
        registered = self._registry.register(
            trained, command.command_id, lambda: run.id_within(TRACKING_PATIENCE_S)
        )
        self._put_live(registered, command)
        self._tracker.finish(run, trained, registered.version)

    def refuse(self, command: Retrain, run: Run | None, reason: str) -> None:
        """Say that the command makes no new live model, and why; ``run`` is to be ended so."""
        refused = TrainingRefused(command_id=command.command_id, reason=reason)
        self._writer.append_model_event(self._topic, refused)
        if run is not None:
            self._tracker.fail(run, reason)
        _LOG.warning("training refused", command=command.command_id, reason=reason)

    def close(self) -> None:
        """Close the connection."""
        self._registry.close()

    def _put_live(self, registered: Registered, command: Retrain) -> None:
        reason = f"{command.reason}; {shown(registered.metrics, registered.comparison)}"
        live = StageChanged(version=registered.version, stage="live", reason=reason)
        self._writer.append_model_event(self._topic, live)
        _LOG.info("model goes live", version=registered.version, reason=reason)


def shown(metrics: Mapping[str, float], comparison: Mapping[str, object] | None) -> str:
    """Return what a model has shown, in a line for people."""
    loss, base = metrics["log_loss"], metrics["base_rate_log_loss"]
    text = f"log loss {loss:.4f} on later data, base rate {base:.4f}"
    if comparison is None or not comparison["champion"]:
        return text  # the first model: there was nothing to compare it with
    return f"{text}; {Comparison.from_json(comparison)}"
