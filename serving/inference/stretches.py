"""What is read from and written to the log in one transaction: stretches, positions, records."""

from __future__ import annotations

import re
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
Place = tuple[str, int]
"""Topic and partition."""

NOTHING_ANSWERED = -1
_METADATA = re.compile(r"source=(-?\d+)(?: change=(\d+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition stands: what is read next, and the last source offset answered.

    ``change`` is the last order of another definition that the partition's holder has answered.
    """

    next_offset: int
    answered: int = NOTHING_ANSWERED
    change: int = 0

    def metadata(self) -> str:
        """Return the text that travels with the committed offset."""
        return f"source={self.answered}" + (f" change={self.change}" if self.change else "")

    @classmethod
    def of(cls, committed: TopicPartition) -> Position:
        """Return the position of a committed offset; raises StateError on foreign metadata."""
        if committed.offset < 0:
            return cls(0)
        if not committed.metadata:  # committed by a tool that resets offsets
            return cls(committed.offset)
        found = _METADATA.fullmatch(committed.metadata)
        if found is None:
            raise StateError(
                f"{committed.topic} partition {committed.partition}: the committed offset carries "
                f"{committed.metadata!r}, not the last source offset answered; another program "
                "commits for this consumer group: stop it and reset the group's offsets"
            )
        return cls(committed.offset, int(found[1]), int(found[2] or 0))


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive records of one partition, and their headers (n,)."""

    log: LogBatch
    headers: list[RawHeaders | None]


@dataclass(frozen=True, slots=True)
class Taken:
    """What was read: stretches, and place → next offset where reading came further."""

    stretches: list[Stretch]
    reached: dict[Place, int]


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
    records: list[Record], ends: Mapping[Place, int], positions: Mapping[Place, Position]
) -> Taken:
    """Return what was read as one stretch per place that has a position.

    ``ends`` are the ends of the log that were reached: behind the last record may stand control
    records, so the end lies behind those, and a drained reader's position is the end.
    """
    stretches = []
    reached: dict[Place, int] = {}
    numbers = cast("list[int]", list(map(Message.partition, records)))
    topics = cast("list[str]", list(map(Message.topic, records)))
    for topic in sorted(set(topics)):
        chosen, of = records, numbers
        if topics.count(topic) != len(topics):
            there = list(map(topic.__eq__, topics))
            chosen, of = list(compress(records, there)), list(compress(numbers, there))
        for partition in sorted(set(of)):
            place = (topic, partition)
            if place not in positions:
                continue
            mine = list(compress(chosen, map(partition.__eq__, of)))
            mine = _beyond(mine, positions[place].next_offset)
            if mine:
                log = to_batch(mine)
                headers = cast("list[RawHeaders | None]", list(map(Message.headers, mine)))
                stretches.append(Stretch(log, headers))
                reached[place] = log.next_offset
    for place, end in ends.items():
        position = positions.get(place)
        if position is not None and end > reached.get(place, position.next_offset):
            reached[place] = end
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
