"""What aiokafka's fetcher has fetched, taken as whole stretches in place of records one by one.

The fetcher keeps its task: it asks the brokers, prefetches, and holds one response per partition
until that is consumed. Here the bytes of the responses are kept as they pass, and parsed in bulk
when the fetcher's turn to give its records out comes; it is told how far that went.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import numpy as np
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

from streams.batch import LogBatch
from streams.record_parsing import TRACEPARENT, Fetched, FetchedRecords, OldFormatError

_FIRST_WITH_ABORTED = 4  # of the response's versions
_FIRST_WITH_REPLICA = 11


class BulkFetches:
    """The fetches of one aiokafka consumer; used in its event loop.

    Args:
        consumer: an ``AIOKafkaConsumer`` that reads committed records only.
    """

    def __init__(self, consumer: Any) -> None:
        self._send = consumer._client.send
        consumer._client.send = self._listen
        self._bytes: dict[TopicPartition, tuple[int, bytes, list[tuple[int, int]]]] = {}
        self._open: dict[TopicPartition, tuple[FetchResult, FetchedRecords | None]] = {}

    async def take(
        self, fetcher: Any, partitions: Collection[Any], max_records: int, timeout_s: float
    ) -> dict[TopicPartition, Fetched]:
        """Return the next stretch of each partition that has one, waiting for the first.

        Args:
            fetcher: the consumer's.
            partitions: those wanted; none are all.
            max_records: per partition.
            timeout_s: after which nothing is returned.

        Raises:
            BrokerError: a batch is damaged.
            aiokafka.errors.KafkaError: what the fetcher has to say of a partition.
        """
        if fetcher._subscriptions.reassignment_in_progress:
            await fetcher._subscriptions.wait_for_assignment()
        taken = self._take_ready(fetcher, partitions, max_records)
        if taken:
            return taken
        waiter = fetcher._create_fetch_waiter()
        done, _ = await asyncio.wait([waiter], timeout=timeout_s)
        if not done or fetcher._closed:
            waiter.cancel()
            return {}
        waiter.result()
        return self._take_ready(fetcher, partitions, max_records)

    async def _listen(self, node_id: int, request: Any, **options: Any) -> Any:
        """Pass a request on; keep the bytes of what is fetched."""
        response = await self._send(node_id, request, **options)
        if isinstance(request, FetchRequest):
            for place, offset, data, aborted in parts_of(request, response):
                self._bytes[place] = offset, data, aborted
        return response

    def _take_ready(
        self, fetcher: Any, partitions: Collection[Any], max_records: int
    ) -> dict[TopicPartition, Fetched]:
        taken: dict[TopicPartition, Fetched] = {}
        for place in self._open.keys() - fetcher._records.keys():
            del self._open[place]  # dropped by the fetcher
        for place, result in list(fetcher._records.items()):
            if partitions and place not in partitions:
                if not fetcher._subscriptions.is_assigned(place):
                    del fetcher._records[place]
                continue
            if not isinstance(result, FetchResult):
                if not taken:
                    _forget(fetcher, place)
                    result.check_raise()
                continue
            fetched = self._take_from(place, result, max_records)
            if not result.has_more():
                _forget(fetcher, place)
            if fetched is not None:
                taken[place] = fetched
        return taken

    def _take_from(self, place: TopicPartition, result: Any, max_records: int) -> Fetched | None:
        """Return the next stretch of a response, or None where it is no longer wanted."""
        if not result.check_assignment(place):
            return None
        position = result._partition_records
        start = position.next_fetch_offset
        records = self._records(place, result, start)
        if records is None:
            return _one_by_one(place, result, start, max_records)
        fetched = records.take(max_records)
        position.next_fetch_offset = records.position
        result._update_position()
        if records.is_taken:
            result._partition_records = None
        return fetched if records.position > start else None

    def _records(
        self, place: TopicPartition, result: FetchResult, start: int
    ) -> FetchedRecords | None:
        """Return the reader of a response; None where the library has to read it."""
        if place in self._open and self._open[place][0] is result:
            return self._open[place][1]
        offset, data, aborted = self._bytes.pop(place, (-1, b"", []))
        records = None
        if offset == start:
            try:
                records = FetchedRecords(place.topic, place.partition, data, offset, aborted)
            except OldFormatError:
                records = None
        self._open[place] = result, records
        return records


def parts_of(
    request: FetchRequest, response: Any
) -> list[tuple[TopicPartition, int, bytes, list[tuple[int, int]]]]:
    """Return (partition, offset asked for, bytes, aborted transactions) of what was fetched."""
    asked = {
        TopicPartition(topic, partition): offset
        for topic, partitions in request.topics
        for partition, offset, _ in partitions
    }
    found = []
    for topic, partitions in response.topics:
        for partition, error, _, *parts in partitions:
            place = TopicPartition(topic, partition)
            if error == 0 and parts[-1]:
                found.append((place, asked[place], parts[-1], _aborted(response, parts)))
    return found


def _aborted(response: Any, parts: list[Any]) -> list[tuple[int, int]]:
    if response.API_VERSION < _FIRST_WITH_ABORTED:
        return []
    before_records = -3 if response.API_VERSION >= _FIRST_WITH_REPLICA else -2
    return parts[before_records] or []


def _forget(fetcher: Any, place: TopicPartition) -> None:
    """Let the fetcher ask for more of a partition."""
    del fetcher._records[place]
    fetcher._notify(fetcher._wait_consume_future)


def _one_by_one(place: TopicPartition, result: Any, start: int, max_records: int) -> Fetched | None:
    """Return the next stretch as the library reads it: what is in a message format before 2."""
    state = result._assignment.state_value(place)
    records = result.getall(max_records)
    if state.position == start:
        return None
    batch = LogBatch(
        topic=place.topic,
        partition=place.partition,
        offsets=np.array([r.offset for r in records], dtype=np.int64),
        timestamps_ms=np.array([r.timestamp for r in records], dtype=np.int64),
        keys=[r.key for r in records],
        values=[r.value for r in records],
        next_offset=state.position,
    )
    traces = {r.offset: v for r in records for name, v in r.headers if name == TRACEPARENT}
    return Fetched(start, batch, traces)
