"""What a monitor is declared to judge: definitions, streams, monitors, training and the step."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from features.definition import Definition
from serving.alerting.declared import Alerting
from serving.monitoring.snapshot import Saved
from serving.monitoring.state import MonitorState
from serving.spec import Monitor
from streams.durations import seconds
from streams.errors import ConfigurationError
from streams.snapshots import log_identity
from streams.stream import EventStream, LabelStream
from streams.topics import Topics
from training.networks.tasks import Binary, Task
from training.spec import Training

FORM = 5
"""Of the saved state; one of another form is not read."""


@dataclass(frozen=True)
class Declared:
    """The part of a pipeline file that a monitor works by; ``step`` is a duration, as "1d"."""

    definitions: Sequence[Definition]
    events: EventStream
    labels: LabelStream
    monitors: Sequence[Monitor]
    training: Training
    step: str
    task: Task = field(default_factory=Binary)
    alerting: Alerting = field(default_factory=Alerting)

    @property
    def step_ms(self) -> int:
        """The pipeline's step in milliseconds."""
        return seconds(self.step) * 1000

    @property
    def maker(self) -> str:
        """Return a name of all that a saved state depends on, except for the definition."""
        kept = (FORM, self.labels, tuple(self.monitors), self.step, self.task)
        content = repr((*kept, self.alerting.confirm))
        return hashlib.sha256(content.encode()).hexdigest()

    def definition(self, version: int) -> Definition:
        """Return the definition of a version.

        Raises:
            ConfigurationError: the pipeline file has none.
        """
        found = self._find(version)
        if found is None:
            raise ConfigurationError(
                f"the features of definition v{version} are judged since a cut-over, and the "
                "monitor's pipeline file does not declare it: declare it, as features=(...), and "
                "start the monitor again"
            )
        return found

    def empty_state(self, definition: Definition) -> MonitorState:
        """Return the state before the first record, for the features of a definition.

        Raises:
            DefinitionError: a monitor's window does not fit the step.
        """
        return MonitorState(
            self.monitors, self.training, definition.groups, self.step_ms,
            self.events.lateness_ms, self.task, self.alerting,
        )  # fmt: skip

    def features_made(self, definition: Definition, bootstrap: str, topics: Topics) -> str:
        """Return the hash of a definition and the id of the log that its features stand in.

        Raises:
            BrokerError: the broker can't be reached, or refuses.
        """
        topic = replace(topics, definition=definition.version).features
        content = definition.hash(self.events, self.labels)
        return f"{content} {log_identity(bootstrap, topic)}"

    def state_of(self, saved: Saved, bootstrap: str, topics: Topics) -> MonitorState | None:
        """Return an empty state for what was saved; None where its features are others now."""
        found = self._find(saved.features)
        if found is None or saved.features_made != self.features_made(found, bootstrap, topics):
            return None
        return self.empty_state(found)

    def _find(self, version: int) -> Definition | None:
        return {definition.version: definition for definition in self.definitions}.get(version)
