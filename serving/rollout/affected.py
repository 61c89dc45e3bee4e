"""Which predictions a version made: offset ranges of the predictions topic.

Within a partition the answers stand in the order of their features, so a stretch of features
offsets is found in the predictions by binary search over the features offsets that their ids carry;
only where definitions were switched the partition is read from its beginning.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.errors import BrokerError
from streams.kafka_client import consumer
from streams.replay import offset_bounds, read_ranges
from streams.routed import Routed
from streams.topics import Topics

PROBE_S = 30.0


@dataclass(frozen=True)
class Affected:
    """Predictions offsets [first, end) of a partition, of which ``predictions`` are a version's,
    over a span of event time, both ends included."""

    partition: int
    first: int
    end: int
    predictions: int
    first_event_ms: int
    last_event_ms: int


class _Answer(msgspec.Struct, gc=False):
    prediction_id: str
    model_version: int
    event_time_ms: int


_decode = msgspec.json.Decoder(_Answer).decode


def affected(
    bootstrap: str,
    topics: Topics,
    routed: Routed,
    definition: int,
    version: int,
    partitions: int,
    one_definition: bool = True,
) -> list[Affected]:
    """Return the ranges with what ``version`` answered of a definition's events.

    ``one_definition``: no other one ever answered, so the predictions stand in one order.

    Raises:
        BrokerError: the predictions can't be read.
    """
    found: list[Affected] = []
    bounds = offset_bounds(bootstrap, topics.predictions, partitions)
    probe = _Probe(bootstrap, topics.predictions)
    try:
        for partition, (low, high) in bounds.items():
            for stretch in routed.stretches(definition, partition):
                arms = [arm.version for arm in stretch.routing.arms]
                if version not in (stretch.routing.live, *arms):
                    continue
                first, end = low, high
                if one_definition:
                    first = probe.find(partition, stretch.first, low, high)
                    if stretch.end is not None:
                        end = probe.find(partition, stretch.end, first, high)
                if found and (found[-1].partition, found[-1].end) == (partition, first):
                    first = found.pop().first  # the share grew: one range
                if end > first:
                    found += _counted(bootstrap, topics.predictions, partition, first, end, version)
                if not one_definition:
                    break
    finally:
        probe.close()
    return found


def _counted(
    bootstrap: str, topic: str, partition: int, first: int, end: int, version: int
) -> list[Affected]:
    times: list[int] = []
    offsets: list[int] = []
    for batch in read_ranges(bootstrap, topic, {partition: (first, end)}):
        for offset, value in zip(batch.offsets.tolist(), batch.values, strict=True):
            answer = _decode(value or b"")
            if answer.model_version == version:
                times.append(answer.event_time_ms)
                offsets.append(offset)
    if not times:
        return []
    return [Affected(partition, offsets[0], end, len(times), min(times), max(times))]


class _Probe:
    """Looks at single records of a topic."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._topic = topic
        self._client: Consumer = consumer(bootstrap)

    def find(self, partition: int, features_offset: int, low: int, high: int) -> int:
        """Return the first offset in [low, high] whose record answers ``features_offset`` or a
        later one; the end where there is none."""
        while low < high:
            middle = (low + high) // 2
            seen = self._at(partition, middle, high)
            if seen is None:  # only control records up to the end
                high = middle
                continue
            offset, answered = seen
            if answered < features_offset:
                low = offset + 1
            else:
                high = middle
        return low

    def close(self) -> None:
        self._client.close()

    def _at(self, partition: int, offset: int, end: int) -> tuple[int, int] | None:
        """Return the next record before ``end``: its offset, and the features offset it answers."""
        self._client.assign([TopicPartition(self._topic, partition, offset)])
        for message in iter(lambda: self._client.poll(PROBE_S), None):
            error, at, value = message.error(), message.offset(), message.value()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                return None
            if error is not None:
                raise BrokerError(f"{self._topic} partition {partition}: {error}")
            if at is None or at >= end:
                return None
            return at, int(_decode(value or b"").prediction_id.rsplit("-", 2)[1])
        raise BrokerError(f"{self._topic} partition {partition}: nothing comes at {offset}")
