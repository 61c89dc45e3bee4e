"""How far each process of a pipeline is behind its inputs."""

from collections.abc import Callable, Mapping

from streams.errors import BrokerError
from streams.positions import PositionReader
from streams.topics import Topics


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
    }


class LagReader:
    """Reads the lag of every role; keeps its connection, and makes a new one after an error."""

    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        partitions: int,
        connect: Callable[[str], PositionReader] = PositionReader,
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = topics
        self._inputs = inputs(topics, partitions)
        self._connect = connect
        self._reader: PositionReader | None = None

    def read(self) -> Mapping[str, int]:
        """Return role → records not yet committed; empty while the broker does not answer."""
        try:
            if self._reader is None:
                self._reader = self._connect(self._bootstrap)
            return {
                role: sum(self._reader.lag(self._topics.group(role), read).values())
                for role, read in self._inputs.items()
            }
        except BrokerError:
            self.close()
            return {}

    def close(self) -> None:
        """Close the connection."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
