"""Whether a predictions topic holds each answer exactly once, as a read_committed reader sees it.

:func:`check` compares what was seen with the events that had to be answered: *lost* (no answer),
*twice* (answers beyond the first), *torn* (a transaction of which only a part is seen). A
transaction says by a header of its records how many it has; what carries none can't be found torn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from numpy.typing import NDArray

from streams.errors import BrokerError
from streams.kafka_client import consumer
from streams.replay import offset_bounds
from streams.wire import Source

TRANSACTION = "kappa-transaction"
"""Header: ``<name>:<records>``, the transaction that a record belongs to and its size."""

_READ_AT_ONCE = 10_000
_SILENT_S = 30.0


@dataclass(frozen=True, slots=True)
class Seen:
    """The answers of one partition in the order of the log, n of each.

    ``sources`` and ``offsets`` (n,) say where in the events topic the events stand, ``ids`` are the
    prediction ids, ``transactions`` the headers' texts, None where a record has none.
    """

    sources: NDArray[np.int64]
    offsets: NDArray[np.int64]
    ids: list[str]
    transactions: list[str | None]


@dataclass(frozen=True, slots=True)
class Deliveries:
    """What :func:`check` found, in numbers of events, answers, or transactions.

    ``foreign`` answers name no event that had to be answered, ``repeated_ids`` are answers whose id
    another has, ``disordered`` first answers that stand behind that of a later event of their
    partition. ``transactions`` are those that were told of.
    """

    events: int
    predictions: int
    lost: int
    twice: int
    torn: int
    foreign: int
    repeated_ids: int
    disordered: int
    transactions: int

    @property
    def exactly_once(self) -> bool:
        """Whether every event has one answer, in order, of a whole transaction."""
        return not (
            self.lost
            or self.twice
            or self.torn
            or self.foreign
            or self.repeated_ids
            or self.disordered
        )


def check(seen: Iterable[Seen], events: Mapping[int, tuple[int, int]]) -> Deliveries:
    """Return what became of ``events``, partition of the events topic → [first, end)."""
    parts = list(seen)
    found: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for part in parts:
        found.update(part.ids)
        sizes.update(text for text in part.transactions if text is not None)
    lost = twice = foreign = disordered = 0
    for partition, (first, end) in events.items():
        offsets = np.concatenate(
            [np.empty(0, np.int64)] + [p.offsets[p.sources == partition] for p in parts]
        )
        due = offsets[(offsets >= first) & (offsets < end)]
        answered, begun = np.unique(due, return_index=True)
        lost += end - first - len(answered)
        twice += len(due) - len(answered)
        foreign += len(offsets) - len(due)
        disordered += int(np.count_nonzero(np.diff(begun) < 0))
    known = np.array(sorted(events), np.int64)
    foreign += sum(int(np.count_nonzero(~np.isin(p.sources, known))) for p in parts)
    return Deliveries(
        events=sum(end - first for first, end in events.values()),
        predictions=sum(found.values()),
        lost=lost,
        twice=twice,
        torn=sum(seen != _size(text) for text, seen in sizes.items()),
        foreign=foreign,
        repeated_ids=sum(found.values()) - len(found),
        disordered=disordered,
        transactions=len(sizes),
    )


def tag(name: str, size: int) -> tuple[str, bytes]:
    """Return the header that tells of a transaction of ``size`` records."""
    return TRANSACTION, f"{name}:{size}".encode()


def _size(text: str) -> int:
    size = text.rpartition(":")[2]
    return int(size) if size.isdigit() else -1


class _Answer(msgspec.Struct):
    prediction_id: str
    source: Source


def read(bootstrap: str, topic: str, partitions: int) -> list[Seen]:
    """Return what a read_committed reader sees of a predictions topic up to its present end.

    Raises:
        BrokerError: the broker fails, or sends nothing for 30 s before the end is reached.
    """
    bounds = offset_bounds(bootstrap, topic, partitions)
    return [_read_partition(bootstrap, topic, p, *bounds[p]) for p in sorted(bounds)]


def _read_partition(bootstrap: str, topic: str, partition: int, first: int, end: int) -> Seen:
    decode = msgspec.json.Decoder(_Answer).decode
    sources: list[int] = []
    offsets: list[int] = []
    ids: list[str] = []
    transactions: list[str | None] = []
    client = consumer(bootstrap)
    position, silent_s = first, 0.0
    try:
        client.assign([TopicPartition(topic, partition, first)])
        while position < end:
            messages = client.consume(min(_READ_AT_ONCE, end - position), 0.2)
            silent_s = 0.0 if messages else silent_s + 0.2
            if silent_s >= _SILENT_S:
                raise BrokerError(
                    f"{topic} partition {partition}: nothing came for {_SILENT_S:.0f} s at offset "
                    f"{position}, and it ends at {end}; see whether the broker answers"
                )
            for message in messages:
                error, offset = message.error(), message.offset() or 0
                if error is None:
                    position = offset + 1
                    answer = decode(message.value() or b"")
                    ids.append(answer.prediction_id)
                    sources.append(answer.source.partition)
                    offsets.append(answer.source.offset)
                    text = dict(message.headers() or ()).get(TRANSACTION)
                    transactions.append(text.decode() if isinstance(text, bytes) else text)
                elif error.code() == KafkaError._PARTITION_EOF:
                    position = offset  # control records may stand at the end
                elif error.fatal():
                    raise BrokerError(f"{topic} partition {partition} can't be read: {error}")
    except KafkaException as error:
        raise BrokerError(f"{topic} partition {partition} can't be read: {error}") from error
    finally:
        client.close()
    return Seen(np.array(sources, np.int64), np.array(offsets, np.int64), ids, transactions)
