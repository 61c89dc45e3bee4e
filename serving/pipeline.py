"""The pipeline: everything a pipeline file declares, in one object."""

import re
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from features.definition import Definition
from serving.spec import Monitor
from streams.durations import seconds
from streams.errors import DefinitionError
from streams.recording import Generator, Reader
from streams.stream import EventStream, LabelStream
from streams.topics import Topics, TopicSpec
from training.spec import Model, Training

_NAME = re.compile(r"[a-z0-9_]+")  # it becomes part of the names of topics, groups and folders


@dataclass(frozen=True)
class Pipeline:
    """A pipeline.

    Args:
        name: prefix of its topics, groups and folder: lower case letters, digits, ``_``.
        events: the stream that is predicted on.
        labels: the stream that tells the right answers.
        features: the definition of the model's inputs.
        model: the network.
        training: when and on what it is trained.
        monitors: what raises alerts.
        step: how much event time passes between two scheduling points: windows of the monitors
            close and the schedule is looked at every ``step``.
        timezone: of the periods in summaries, and of the schedule.
        baseline: name of a naive rule shown beside the model: ``"last_label"`` or None.
        read: reads the operator's own files, see :data:`streams.recording.Reader`.
        generate: makes a demonstration stream, see :data:`streams.recording.Generator`.
    """

    name: str
    events: EventStream
    labels: LabelStream
    features: Definition
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    monitors: tuple[Monitor, ...] = ()
    step: str = "1d"
    timezone: str = "UTC"
    baseline: str | None = None
    read: Reader | None = None
    generate: Generator | None = None

    def __post_init__(self) -> None:
        """Check the parts against each other; raises DefinitionError."""
        if not _NAME.fullmatch(self.name):
            raise DefinitionError(
                f"pipeline name {self.name!r}: lower case letters, digits and _ only"
            )
        self.features.check_against(self.events)
        seconds(self.step)
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise DefinitionError(
                f"pipeline {self.name}: unknown time zone {self.timezone!r}; use an IANA name such "
                'as "America/New_York"'
            ) from None

    @property
    def topics(self) -> Topics:
        """The names of the pipeline's topics."""
        return Topics(self.name, self.features.version)

    @property
    def topic_specs(self) -> list[TopicSpec]:
        """What the broker must hold for the pipeline."""
        return self.topics.specs(self.events.partitions)

    @property
    def definition_hash(self) -> str:
        """The hash of all that decides the features' values."""
        return self.features.hash(self.events)
