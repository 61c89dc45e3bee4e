"""Fetching from chosen offsets, by a client that belongs to no group, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import Future
from threading import Thread
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, NoError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import TopicPartition

from streams import kafka_client
from streams.bulk_fetching import parts_of
from streams.errors import BrokerError
from streams.record_parsing import FetchedRecords

MAX_FETCH_BYTES = 4 << 20
FETCH_WAIT_MS = 100
REQUEST_TIMEOUT_MS = 30_000
CLOSE_TIMEOUT_S = 5.0

_BYTES_PER_RECORD = 1 << 10  # a guess by which a short range does not fetch all that follows it
_MIN_FETCH_BYTES = 64 << 10
_READ_COMMITTED = 1
_RETRY_S = 0.05


class OutOfRangeError(Exception):
    """The log does not hold the offset asked for."""


class _UnavailableError(Exception):
    """The partition can't be asked now, and perhaps later."""


class LogReader:
    """Fetches, one request at a time; connects with the first. :meth:`close` it at the end."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._client: AIOKafkaClient | None = None
        self._fetching: asyncio.Task[Any] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._run, name="log-reader", daemon=True)
        self._thread.start()

    def fetch(
        self, topic: str, partition: int, offset: int, records: int
    ) -> Future[FetchedRecords]:
        """Ask for the committed records from ``offset`` on; about so many are wanted.

        What comes may be empty: there was nothing for :data:`FETCH_WAIT_MS`. The future's exception
        is an OutOfRangeError, an OldFormatError or a BrokerError.
        """
        work = self._fetch(TopicPartition(topic, partition), offset, records)
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """End what is under way, and the connection."""
        stopping = asyncio.run_coroutine_threadsafe(self._stop(), self._loop)
        with contextlib.suppress(Exception):
            stopping.result(CLOSE_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_forever()

    async def _stop(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])
        if self._client is not None:
            await self._client.close()

    async def _fetch(self, place: TopicPartition, offset: int, records: int) -> FetchedRecords:
        self._fetching = asyncio.current_task()
        max_bytes = min(MAX_FETCH_BYTES, max(_MIN_FETCH_BYTES, records * _BYTES_PER_RECORD))
        request = FetchRequest(
            FETCH_WAIT_MS, 1, MAX_FETCH_BYTES, _READ_COMMITTED,
            [(place.topic, [(place.partition, offset, max_bytes)])],
        )  # fmt: skip
        deadline_s = self._loop.time() + kafka_client.LEADER_TIMEOUT_S
        known = True
        while True:
            try:
                return await self._ask(place, offset, request, known)
            except (_UnavailableError, KafkaError) as error:
                known = False
                if self._loop.time() > deadline_s:
                    raise BrokerError(
                        f"{place.topic} partition {place.partition} can't be read: {error!r}"
                    ) from error
            await asyncio.sleep(_RETRY_S)

    async def _ask(
        self, place: TopicPartition, offset: int, request: FetchRequest, is_known: bool
    ) -> FetchedRecords:
        client = await self._connected()
        if not is_known or client.cluster.partitions_for_topic(place.topic) is None:
            await _look_up(client, place.topic)
        leader = client.cluster.leader_for_partition(place)
        if leader is None or leader == -1:
            raise _UnavailableError("it is not there, or has no leader")
        response = await client.send(leader, request)
        ((_, ((_, code, *_),)),) = response.topics
        error = for_code(code)
        if error is OffsetOutOfRangeError:
            raise OutOfRangeError
        if error is not NoError:
            raise _UnavailableError(error.__name__)
        for _, _, data, aborted in parts_of(request, response):
            return FetchedRecords(place.topic, place.partition, data, offset, aborted)
        return FetchedRecords(place.topic, place.partition, b"", offset)

    async def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            client = AIOKafkaClient(
                bootstrap_servers=self._bootstrap,
                client_id="kappa-log-reader",
                request_timeout_ms=REQUEST_TIMEOUT_MS,
            )
            try:
                await client.bootstrap()
            except BaseException:
                await client.close()
                raise
            self._client = client
        return self._client


async def _look_up(client: AIOKafkaClient, topic: str) -> None:
    """Ask who leads a topic; asked by the client itself, some brokers would make it."""
    request = MetadataRequest([topic], allow_auto_topic_creation=False)
    client.cluster.update_metadata(await client.send(client.get_random_node(), request))
