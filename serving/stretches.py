"""What is read from and written to the log in one transaction: stretches, positions, records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TypeAlias, cast

from confluent_kafka import Message, TopicPartition

from streams.batch import LogBatch
from streams.errors import StateError
from streams.replay import to_batch

Record: TypeAlias = "Message[bytes, bytes]"
RawHeaders = list[tuple[str, bytes | None]]

NOTHING_ANSWERED = -1


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition stands: what is read next, and the last source offset answered."""

    next_offset: int
    answered: int = NOTHING_ANSWERED

    def metadata(self) -> str:
        """Return the text that travels with the committed offset."""
        return f"source={self.answered}"

    @classmethod
    def of(cls, committed: TopicPartition) -> Position:
        """Return the position of a committed offset; raises StateError on foreign metadata."""
        if committed.offset < 0:
            return cls(0)
        if not committed.metadata:  # committed by a tool that resets offsets
            return cls(committed.offset)
        name, _, answered = committed.metadata.partition("=")
        if name != "source" or not answered.removeprefix("-").isdecimal():
            raise StateError(
                f"{committed.topic} partition {committed.partition}: the committed offset carries "
                f"{committed.metadata!r}, not the last source offset answered; another program "
                "commits for this consumer group: stop it and reset the group's offsets"
            )
        return cls(committed.offset, int(answered))


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive records of one partition, and their headers (n,)."""

    log: LogBatch
    headers: list[RawHeaders | None]


@dataclass(frozen=True, slots=True)
class Taken:
    """What was read: stretches, and partition → next offset where reading came further."""

    stretches: list[Stretch]
    reached: dict[int, int]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Records for one partition of a topic; the sequences have the same length n."""

    topic: str
    partition: int
    keys: Sequence[bytes]
    values: Sequence[bytes]
    timestamps_ms: Sequence[int]
    headers: Sequence[Sequence[tuple[str, str | bytes]]]


def sort_out(
    records: list[Record], ends: Mapping[int, int], positions: Mapping[int, Position]
) -> Taken:
    """Return what was read as one stretch per partition that has a position.

    ``ends`` are the ends of the log that were reached: behind the last record may stand control
    records, so the end lies behind those, and a drained reader's position is the end.
    """
    stretches = []
    reached: dict[int, int] = {}
    numbers = cast("list[int]", list(map(Message.partition, records)))
    for partition in sorted(set(numbers) & positions.keys()):
        mine = list(compress(records, map(partition.__eq__, numbers)))
        mine = _beyond(mine, positions[partition].next_offset)
        if mine:
            log = to_batch(mine)
            headers = cast("list[RawHeaders | None]", list(map(Message.headers, mine)))
            stretches.append(Stretch(log, headers))
            reached[partition] = log.next_offset
    for partition, end in ends.items():
        position = positions.get(partition)
        if position is not None and end > reached.get(partition, position.next_offset):
            reached[partition] = end
    return Taken(stretches, reached)


def _beyond(records: list[Record], position: int) -> list[Record]:
    """Return the records that stand at or behind ``position``, each once.

    A rebalance during the read may leave what was read before it, and the same again from the
    position that was committed; both begin at a position and have no gaps.
    """
    offsets = cast("list[int]", list(map(Message.offset, records)))
    if offsets[0] >= position and all(map(int.__lt__, offsets, offsets[1:])):
        return records
    kept = []
    for record, offset in zip(records, offsets, strict=True):
        if offset >= position:
            kept.append(record)
            position = offset + 1
    return kept
