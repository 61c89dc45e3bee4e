"""Answers to Retrain commands, in the control log: each command gets one, whatever happens.

An answer is ``registered`` and ``stage: live``, or ``refused``. A crash between the first two
leaves a half answer, which is completed where the command comes again.

Where the pipeline declares a rollout, a new version goes into ``shadow`` in place of ``live``, and
the rollout's worker carries it on; only the first, where nothing but the prior answers, is live at
once. One version waits in shadow at a time: an older one that the trainer put there is retired. One
in canary goes on, and the newer waits in shadow until it is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from streams.changes import Changes
from streams.control import ControlFollower, ControlWriter, decode_model_events
from streams.rollout import Rollout
from streams.wire import Positions, Registered, Retrain, StageChanged, TrainingRefused
from training.retraining.comparison import Comparison, Policy, objection
from training.retraining.gate import refusal
from training.retraining.job import TrainedModel
from training.retraining.registering import Registry
from training.tracking.runs import Run, Tracker

TRACKING_PATIENCE_S = 5.0
BY = "trainer"
_LOG = structlog.get_logger(role="trainer")


class Answers:
    """Writes the answers of one pipeline, with what MLflow is told of each.

    ``since`` is given where the pipeline declares a rollout: it returns the ends of the features of
    a definition, from which on a version answers in shadow.
    """

    def __init__(
        self, bootstrap: str, topic: str, tracker: Tracker,
        since: Callable[[int], Positions] | None = None,
    ) -> None:  # fmt: skip
        self._bootstrap, self._topic, self._tracker = bootstrap, topic, tracker
        self._since = since
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
            self._send_on(begun[-1], command)
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
        self._send_on(registered, command)
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

    def _send_on(self, registered: Registered, command: Retrain) -> None:
        reason = f"{command.reason}; {shown(registered.metrics, registered.comparison)}"
        version = registered.version
        if self._since is None:
            live = StageChanged(version=version, stage="live", reason=reason)
            self._writer.append_model_event(self._topic, live)
            _LOG.info("model goes live", version=version, reason=reason)
            return
        changes = Changes(self._bootstrap, self._topic)
        try:
            if changes.decide(lambda rollout: _as_first(rollout, registered, reason)) is None:
                self._into_shadow(changes, registered, reason, self._since)
        finally:
            changes.close()
        _LOG.info("model sent on", version=version, stage=changes.rollout.stages.get(version))

    def _into_shadow(
        self, changes: Changes, registered: Registered, reason: str,
        since: Callable[[int], Positions],
    ) -> None:  # fmt: skip
        """Retire what waits there, then put the version in: if that is not done, it comes again."""
        owners = self._owners()
        while changes.decide(lambda rollout: _retired(rollout, registered, owners)) is not None:
            pass
        changes.decide(lambda rollout: _shadowed(rollout, registered, reason, since))

    def _owners(self) -> dict[int, str]:
        """Return version → who put it into its last stage."""
        follower = ControlFollower(self._bootstrap, self._topic)
        try:
            events = decode_model_events(follower.catch_up())
        finally:
            follower.close()
        return {event.version: event.by for event in events if isinstance(event, StageChanged)}


def _as_first(rollout: Rollout, registered: Registered, reason: str) -> StageChanged | None:
    """Return the change that puts the first model live; None where it is not the first."""
    definition = registered.definition
    if rollout.routing(definition).live or definition in rollout.pinned:
        return None
    return StageChanged(registered.version, "live", f"the first model; {reason}", by=BY)


def _retired(
    rollout: Rollout, registered: Registered, owners: Mapping[int, str]
) -> StageChanged | None:
    """Return the change that retires a version which waits in shadow; None where none does."""
    for version, stage in rollout.stages.items():
        of = rollout.versions[version]
        if (
            stage == "shadow"
            and of.definition == registered.definition
            and version < registered.version
            and owners.get(version) == BY
        ):
            why = f"model {registered.version} takes its place in shadow"
            return StageChanged(version, "retired", why, by=BY)
    return None


def _shadowed(
    rollout: Rollout, registered: Registered, reason: str, since: Callable[[int], Positions]
) -> StageChanged | None:
    """Return the change that puts the version into shadow; None where the command is answered."""
    if registered.command_id in rollout.answered_commands:
        return None
    begins = since(registered.definition)
    return StageChanged(registered.version, "shadow", reason, since=begins, by=BY)


def shown(metrics: Mapping[str, float], comparison: Mapping[str, object] | None) -> str:
    """Return what a model has shown, in a line for people."""
    loss, base = metrics["log_loss"], metrics["base_rate_log_loss"]
    text = f"log loss {loss:.4f} on later data, base rate {base:.4f}"
    if comparison is None or not comparison["champion"]:
        return text  # the first model: there was nothing to compare it with
    return f"{text}; {Comparison.from_json(comparison)}"
