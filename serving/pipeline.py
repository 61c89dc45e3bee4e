"""The pipeline: everything a pipeline file declares, in one object."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, overload
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from features.definition import Definition
from serving.alerting.declared import Alerting
from serving.online.declared import Online, check_network
from serving.rollout.declared import RolloutPolicy
from serving.spec import Monitor
from streams.durations import seconds
from streams.errors import DefinitionError
from streams.recording import Generator, Reader
from streams.stream import EventStream, LabelStream
from streams.topics import Topics, TopicSpec
from training.networks.declared import events_seen
from training.retraining.space import Space
from training.spec import Model, Training
from training.targets import Targets

_NAME = re.compile(r"[a-z0-9_]+")  # it becomes part of the names of topics, groups and folders


class _Versions:
    """The field ``features``: takes one definition or several, gives the first."""

    @overload
    def __get__(self, pipeline: None, owner: type) -> "_Versions": ...
    @overload
    def __get__(self, pipeline: object, owner: type) -> Definition: ...
    def __get__(self, pipeline: Any, owner: type) -> "_Versions | Definition":
        if pipeline is None:
            raise AttributeError("features")  # so the field has no default
        first: Definition = pipeline.definitions[0]
        return first

    def __set__(self, pipeline: Any, given: Definition | Sequence[Definition]) -> None:
        versions = (given,) if isinstance(given, Definition) else tuple(given)
        object.__setattr__(pipeline, "definitions", versions)
        if not versions:
            raise DefinitionError("features=() declares no definition: give at least one")


@dataclass(frozen=True)
class Pipeline:
    """A pipeline.

    Args:
        name: prefix of its topics, groups and folder: lower case letters, digits, ``_``.
        events: the stream that is predicted on.
        labels: the stream that tells the right answers.
        features: the definition of the model's inputs; or several versions of it, of which the
            first is what runs until another is cut over. Read, it is the first; all are
            ``definitions``.
        model: the network.
        training: when and on what it is trained.
        search: what ``kappa tune`` tries.
        rollout: how a new version comes to be live; None puts it live at once.
        online: how the live model goes on learning from outcomes; None for not.
        labels_within: how far from its event, in event time, a label may be for an outcome: so
            long predictions wait for labels, and labels for predictions.
        monitors: what raises alerts.
        alerting: how sure they must be, and what follows.
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
    features: _Versions = _Versions()
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    monitors: tuple[Monitor, ...] = ()
    step: str = "1d"
    timezone: str = "UTC"
    baseline: str | None = None
    read: Reader | None = None
    generate: Generator | None = None
    search: Space = field(default_factory=Space)
    rollout: RolloutPolicy | None = None
    alerting: Alerting = field(default_factory=Alerting)
    online: Online | None = None
    labels_within: str = "60d"
    definitions: tuple[Definition, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the parts against each other; raises DefinitionError."""
        if not _NAME.fullmatch(self.name):
            raise DefinitionError(
                f"pipeline name {self.name!r}: lower case letters, digits and _ only"
            )
        versions = [definition.version for definition in self.definitions]
        if len(set(versions)) < len(versions):
            raise DefinitionError(
                f"pipeline {self.name}: the definitions have the versions {versions}: "
                "give each its own"
            )
        for definition in self.definitions:
            definition.check_against(self.events, self.labels)
            self._check_histories(definition)
        if self.online is not None:
            check_network(self.model.network)
        Targets(self.model.task, self.labels.target)  # refuses classes that no field can hold
        seconds(self.step)
        seconds(self.labels_within)
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise DefinitionError(
                f"pipeline {self.name}: unknown time zone {self.timezone!r}; use an IANA name such "
                'as "America/New_York"'
            ) from None

    def _check_histories(self, definition: Definition) -> None:
        last, keys = events_seen(self.model.network), definition.keys(self.events, self.labels)
        if last and len(keys) > 1 and self.events.partitions > 1:
            raise DefinitionError(
                f"pipeline {self.name}: its network sees the last {last} events of an entity, and "
                f"the features of definition v{definition.version} are keyed by {keys[-1]!r} last, "
                f"so that the events of one {keys[0]!r} are spread over the partitions: leave out "
                "the features by another key, or give the events one partition"
            )

    def definition(self, version: int) -> Definition:
        """Return the definition of a version; raises DefinitionError where none is declared."""
        for definition in self.definitions:
            if definition.version == version:
                return definition
        declared = ", ".join(f"v{definition.version}" for definition in self.definitions)
        raise DefinitionError(
            f"pipeline {self.name} declares no definition v{version}, only {declared}: put it into "
            "features=(...) of the pipeline file"
        )

    @property
    def topics(self) -> Topics:
        """The names of the pipeline's topics, as the first definition has them."""
        return self.topics_of(self.features)

    def topics_of(self, definition: Definition) -> Topics:
        """Return the names of the topics as one of the definitions has them."""
        return Topics(self.name, definition.version)

    @property
    def topic_specs(self) -> list[TopicSpec]:
        """What the broker must hold for the pipeline and all its definitions."""
        specs = {
            spec.name: spec
            for definition in self.definitions
            for spec in self.topics_of(definition).specs(
                self.events.partitions, definition.keys(self.events, self.labels)[1:]
            )
        }
        return list(specs.values())

    @property
    def definition_hash(self) -> str:
        """The hash of all that decides the features' values."""
        return self.features.hash(self.events, self.labels)
