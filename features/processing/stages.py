"""The stages of a definition: one process (or more) per entity key, chained by re-keyed topics.

The first stage reads the events and computes what remembers by their own key. Each further key has
a topic of the same events keyed by it (:mod:`features.processing.rekeyed`), which the stage before
writes and the next reads; the last stage makes the feature records. A definition of one key has one
stage.

The last stage is called ``features`` whatever their number; an earlier one ``features-<key>``.
Groups, snapshots and processes go by these names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from features.definition import Definition
from features.staging import earlier_features, label_stage, stage_features
from streams.settings import Settings
from streams.snapshots import SnapshotStore, log_identity
from streams.stream import EventStream, LabelStream
from streams.topics import Topics

if TYPE_CHECKING:
    from features.engine.engine import FeatureEngine
    from features.processing.rekeyed import RekeyedDecoder

ROLE = "features"


@dataclass(frozen=True)
class Stage:
    """One stage of a definition; ``number`` counts from 0."""

    topics: Topics
    definition: Definition
    events: EventStream
    labels: LabelStream | None = None
    number: int = 0

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all stages."""
        return self.definition.keys(self.events, self.labels)

    @property
    def key(self) -> str:
        """The field whose values are the stage's entities."""
        return self.keys[self.number]

    @property
    def is_last(self) -> bool:
        """Whether the stage makes the feature records."""
        return self.number == len(self.keys) - 1

    @property
    def reads_labels(self) -> bool:
        """Whether the stage reads the labels too."""
        return label_stage(self.definition, self.events, self.labels) == self.number

    @property
    def role(self) -> str:
        """The name of the stage's processes."""
        return ROLE if self.is_last else f"{ROLE}-{self.key}"

    @property
    def group(self) -> str:
        """The consumer group."""
        return self.topics.group(self.role)

    @property
    def folder(self) -> str:
        """The folder of the stage's snapshots, below that of all snapshots."""
        return f"{self.role}-v{self.definition.version}"

    @property
    def input(self) -> str:
        """The topic that it reads."""
        return self.topics.rekeyed(self.key) if self.number else self.topics.events

    @property
    def output(self) -> str:
        """The topic that it writes."""
        return self.topics.features if self.is_last else self.topics.rekeyed(self.next_key)

    @property
    def next_key(self) -> str:
        """The key of the next stage."""
        return self.keys[self.number + 1]

    @property
    def own_features(self) -> list[str]:
        """The names of the features that remember by the stage's key, declared order."""
        return stage_features(self.definition, self.events, self.labels, self.number)

    @property
    def has_view(self) -> bool:
        """Whether the stage makes what the online store keeps of its key."""
        return len(self.keys) == 1 or bool(self.own_features)

    @property
    def own_columns(self) -> list[int]:
        """Their places among the windowed features made so far."""
        made = earlier_features(self.definition, self.events, self.labels, self.number + 1)
        return [made.index(name) for name in self.own_features]

    @property
    def maker(self) -> str:
        """What the stage's snapshots are made by; a changed definition is another."""
        return self.definition.hash(self.events, self.labels)

    def engine(self) -> "FeatureEngine":
        """Return the engine of a partition at the log's beginning."""
        # Here and below: who only asks for names need not wait for the compiler's import.
        from features.engine.engine import FeatureEngine

        return FeatureEngine(
            self.definition, self.events, self.labels, self.number, self._decoder()
        )

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> "FeatureEngine":
        """Return the engine whose snapshot the arrays are; else raises StateError."""
        from features.engine.engine import FeatureEngine

        return FeatureEngine.restore(
            self.definition, self.events, arrays, self.labels, self.number, self._decoder()
        )

    def _decoder(self) -> "RekeyedDecoder | None":
        if self.number == 0:
            return None
        from features.processing.rekeyed import RekeyedDecoder

        return RekeyedDecoder(self.definition, self.events, self.labels, self.number)


def snapshot_store(
    bootstrap: str, stage: Stage, home: Path, settings: Settings | None = None
) -> SnapshotStore:
    """Return the snapshots of a stage of the pipeline whose state lies in ``home``.

    ``settings`` say where they lie, by default the environment's.

    Raises:
        BrokerError: the topics that the stage reads can't be described.
        ConfigurationError: nothing is known that serves the address in the settings.
    """
    topics = [stage.input, *([stage.topics.labels] if stage.reads_labels else [])]
    source = " ".join(log_identity(bootstrap, topic) for topic in topics)
    place = (settings or Settings()).snapshots_of(stage.topics.name, home)
    folder = place / stage.folder if isinstance(place, Path) else f"{place}/{stage.folder}"
    return SnapshotStore(folder, source)


def stages_of(
    definition: Definition, events: EventStream, labels: LabelStream | None, topics: Topics
) -> list[Stage]:
    """Return the stages in the order in which events pass through them."""
    number = len(definition.keys(events, labels))
    return [Stage(topics, definition, events, labels, i) for i in range(number)]
