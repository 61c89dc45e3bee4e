"""Finding, in a features topic, where the events from an offset of their own log on stand."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from serving.inference.stretches import Place
from streams.errors import BrokerError
from streams.kafka_client import consumer, watermarks
from streams.wire import Source

STALL_S = 30.0
POLL_S = 0.1


class _Placed(msgspec.Struct, gc=False):
    source: Source


_decode = msgspec.json.Decoder(_Placed).decode


def finder(bootstrap: str) -> Callable[[Place, int, int], int]:
    """Return a function (place, source offset, offset) → where to read from.

    That is ``offset`` or later, and no record whose source offset is as great as the one asked for
    stands only before it. Source offsets ascend, but for stretches that a crash made the feature
    stage emit again; each goes on to where the one before it ended, so what stands behind a record
    holds all greater source offsets, and a search by halves stays right.

    Raises:
        BrokerError: the topic can't be read.
    """

    def find(place: Place, source: int, offset: int) -> int:
        client = consumer(bootstrap)
        try:
            begin, end = watermarks(client, *place)
            low, high = max(begin, offset), end
            while low < high:
                middle = (low + high) // 2
                at = _first_from(client, place, middle)
                if at is None or at[1] >= source:
                    high = middle
                else:
                    low = at[0] + 1
            return low
        except KafkaException as error:
            raise BrokerError(f"{place[0]} partition {place[1]}: {error}") from error
        finally:
            client.close()

    return find


def _first_from(client: Consumer, place: Place, offset: int) -> tuple[int, int] | None:
    """Return (offset, source offset) of the first record from ``offset`` on; None at the end."""
    client.assign([TopicPartition(*place, offset)])
    for _ in range(round(STALL_S / POLL_S)):
        message = client.poll(POLL_S)
        if message is None:
            continue
        error, found = message.error(), message.offset()
        if error is None and found is not None:
            return found, _decode(message.value() or b"").source.offset
        if error is not None and error.code() == KafkaError._PARTITION_EOF:
            return None
    raise BrokerError(f"{place[0]} partition {place[1]}: no record at {offset} in {STALL_S:.0f} s")
