"""From a Retrain command to the job that it asks for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from features.definition import Definition
from streams.errors import TrainingError
from streams.rollout import Rollout
from streams.wire import Retrain
from training.retraining.job import TrainingJob
from training.retraining.predecessor import Predecessor
from training.spec import Training

Start = Literal["full", "warm"]
WHOLE_LOG = "all"
"""What a command's ``window`` says for no window."""


def job_of(
    command: Retrain, declared: TrainingJob, rollout: Rollout, definitions: Sequence[Definition]
) -> TrainingJob:
    """Return the job of ``command``: on the features of the definition that was ordered last.

    Args:
        command: what is asked for.
        declared: the job as the pipeline file has it.
        rollout: what the control log says now.
        definitions: those that the pipeline file declares.

    Raises:
        TrainingError: the definition is not declared.
        DefinitionError: the command's window is no length of time.
    """
    known = {d.version: d for d in (declared.definition, *definitions)}
    version = rollout.cutovers.definition or declared.definition.version
    if version not in known:
        raise TrainingError(
            f"the features of definition v{version} answer since a cut-over, and the trainer's "
            "pipeline file does not declare it: declare it, as features=(...), and start the "
            "trainer again"
        )
    return replace(
        declared,
        topics=replace(declared.topics, definition=version),
        definition=known[version],
        training=changed(declared.training, command.start, command.window),
        cutoff_ms=command.cutoff_ms,
        command_id=command.command_id,
        live=Predecessor.live(rollout, version),
    )


def changed(training: Training, start: Start | None, window: str | None) -> Training:
    """Return ``training`` with another start and window, where those are given.

    Raises:
        DefinitionError: the window is no length of time.
    """
    if start is not None:
        training = replace(training, start=start)
    if window is not None:
        training = replace(training, window=None if window == WHOLE_LOG else window)
    return training
