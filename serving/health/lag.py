"""How far each process of a pipeline is behind its inputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from kafka.protocol.consumer.offsets import IsolationLevel

from features.processing.stages import Stage
from streams.control import ControlFollower, decode_model_events
from streams.errors import BrokerError
from streams.positions import PositionReader
from streams.rollout import Rollout
from streams.topics import Topics


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a group stands in a partition: ``committed`` is None where it never committed."""

    committed: int | None
    end: int

    @property
    def lag(self) -> int:
        """How many offsets are not committed yet."""
        return self.end - max(0, self.committed or 0)


def standings(
    reader: PositionReader, group: str, topics: dict[str, int]
) -> dict[str, dict[int, Standing]]:
    """Return topic → partition → where ``group`` stands, up to the very end of each: what a
    transaction wrote may stand behind the end of read_committed readers though it is committed.

    Raises:
        BrokerError: the broker does not tell.
    """
    ends = reader.ends(topics, IsolationLevel.READ_UNCOMMITTED)
    committed = reader.committed(group)
    return {
        topic: {
            p: Standing(committed.get(topic, {}).get(p), end)
            for p, end in sorted(by_partition.items())
        }
        for topic, by_partition in ends.items()
    }


def inputs(topics: Topics, partitions: int) -> dict[str, dict[str, int]]:
    """Return role → topic → number of partitions: what each role's consumer group commits."""
    features = {topics.features: partitions}
    judged = {topics.predictions: partitions, topics.labels: partitions}
    commands = {topics.commands: 1}
    return {
        "features": {topics.events: partitions},
        "inference": features,
        "shadow": features,
        "monitor": {**features, **judged, **commands},
        "trainer": commands,
        "outcomes": dict.fromkeys(
            (topics.predictions, topics.shadow, topics.requests, topics.labels), partitions
        ),
    }


class LagReader:
    """Reads the lag of every role; keeps its connection, and makes a new one after an error.

    Those who read features are measured at the definition that was ordered last. ``stages`` are the
    roles that make features, where they are not the one of a definition with one key.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        partitions: int,
        connect: Callable[[str], PositionReader] = PositionReader,
        stages: Mapping[str, Stage] | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = topics
        self._partitions = partitions
        self._connect = connect
        self._stages = stages or {}
        self._reader: PositionReader | None = None
        self._models: ControlFollower | None = None
        self._rollout = Rollout()

    def read(self) -> Mapping[str, int]:
        """Return role → records not yet committed; empty while the broker does not answer."""
        return {
            role: sum(at.lag for by in topics.values() for at in by.values())
            for role, topics in self.by_partition().items()
        }

    def by_partition(self) -> dict[str, dict[str, dict[int, Standing]]]:
        """Return role → topic → partition → where its group stands; empty while the broker does
        not answer."""
        try:
            if self._reader is None:
                self._reader = self._connect(self._bootstrap)
            return {
                role: standings(self._reader, group, read)
                for role, (group, read) in self._groups(self._current()).items()
            }
        except BrokerError:
            self.close()
            return {}

    def _groups(self, topics: Topics) -> dict[str, tuple[str, dict[str, int]]]:
        """Return role → its group, and topic → partitions that it reads."""
        groups = {
            role: (topics.group(role), read)
            for role, read in inputs(topics, self._partitions).items()
        }
        for role, stage in self._stages.items():
            groups[role] = stage.group, {stage.input: self._partitions}
        return groups

    def close(self) -> None:
        """Close the connection."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._models is not None:
            self._models.close()
            self._models, self._rollout = None, Rollout()

    def _current(self) -> Topics:
        """Return the topics as the definition that was ordered last has them."""
        if self._models is None:
            self._models = ControlFollower(self._bootstrap, self._topics.models)
            values = self._models.catch_up()
        else:
            values = self._models.poll()  # never waits: this is asked every second
        self._rollout = self._rollout.apply_all(decode_model_events(values))
        ordered = self._rollout.cutovers.definition
        return self._topics if ordered is None else replace(self._topics, definition=ordered)
