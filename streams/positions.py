"""Where groups stand and where topics end: lag, and waiting until a stage is drained."""

import time

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient, OffsetSpec
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
    NotCoordinatorError,
)
from kafka.protocol.consumer.offsets import IsolationLevel
from kafka.structs import OffsetAndMetadata

from streams.errors import BrokerError
from streams.topics import connect_admin

COORDINATOR_TIMEOUT_S = 15.0

_COORDINATOR_COMING = (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
)


class PositionReader:
    """Reads committed positions and ends over one administration connection."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._admin: KafkaAdminClient = connect_admin(bootstrap)

    def close(self) -> None:
        """Close the connection."""
        self._admin.close()

    def ends(
        self, topics: dict[str, int], isolation: IsolationLevel = IsolationLevel.READ_COMMITTED
    ) -> dict[str, dict[int, int]]:
        """Return topic → partition → end offset, by default for read_committed readers.

        ``topics`` maps each topic to its number of partitions.
        """
        wanted = {
            TopicPartition(topic, p): OffsetSpec.LATEST
            for topic, partitions in topics.items()
            for p in range(partitions)
        }
        try:
            found = self._admin.list_partition_offsets(wanted, isolation_level=isolation)
        except KafkaError as error:
            raise BrokerError(f"ends of {list(topics)} at {self._bootstrap}: {error}") from error
        ends: dict[str, dict[int, int]] = {topic: {} for topic in topics}
        for tp, at in found.items():
            ends[tp.topic][tp.partition] = at.offset
        return ends

    def committed(self, group: str) -> dict[str, dict[int, int]]:
        """Return topic → partition → committed next offset of ``group``."""
        found = self._group_offsets(group)
        positions: dict[str, dict[int, int]] = {}
        for tp, at in found.items():
            positions.setdefault(tp.topic, {})[tp.partition] = at.offset
        return positions

    def lag(self, group: str, topics: dict[str, int]) -> dict[str, int]:
        """Return topic → how many offsets ``group`` has not committed yet.

        Up to the very end: a transaction's markers reach its topics one after the other, so what
        it wrote may stand behind the end of read_committed readers though it is committed.
        """
        ends = self.ends(topics, IsolationLevel.READ_UNCOMMITTED)
        committed = self.committed(group)
        return {
            topic: sum(
                end - max(0, committed.get(topic, {}).get(p, 0)) for p, end in by_partition.items()
            )
            for topic, by_partition in ends.items()
        }

    def _group_offsets(self, group: str) -> dict[TopicPartition, OffsetAndMetadata]:
        deadline = time.monotonic() + COORDINATOR_TIMEOUT_S
        while True:
            try:
                found: dict[TopicPartition, OffsetAndMetadata] = self._admin.list_group_offsets(
                    [group]
                )[group]
                return found
            except _COORDINATOR_COMING as error:
                # A fresh broker makes the offsets topic at the first question.
                if time.monotonic() > deadline:
                    raise BrokerError(f"offsets of group {group}: {error}") from error
                time.sleep(0.05)
            except KafkaError as error:
                raise BrokerError(f"offsets of group {group}: {error}") from error
