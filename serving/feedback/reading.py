"""Following several topics from given positions: all partitions in one request, parsed in bulk.

A thread of its own asks the brokers; one request to each is under way while the caller works on
what the one before brought. Records are read with the isolation of committed ones.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from threading import Thread
from typing import Any

import numpy as np
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, NoError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import TopicPartition

from serving.inference.stretches import Place
from streams.batch import LogBatch
from streams.bulk_fetching import parts_of
from streams.errors import BrokerError
from streams.record_parsing import FetchedRecords, OldFormatError

MAX_BATCH = 10_000
MAX_FETCH_BYTES = 8 << 20
MAX_PARTITION_BYTES = 2 << 20
FETCH_WAIT_MS = 50
CLOSE_TIMEOUT_S = 5.0
UNAVAILABLE_S = 30.0

_READ_COMMITTED = 1
_RETRY_S = 0.05


class _UnavailableError(Exception):
    """A partition can't be asked now, and perhaps later."""


class TopicsReader:
    """Reads committed records from ``positions``, place → next offset, on.

    ``ended`` are the places whose end was reached and behind which nothing has come yet; positions
    stand behind the control records of transactions, so a drained place's position is its end.
    ``traces`` is offset → ``traceparent``, of the records of the stretch that was yielded last.

    Args:
        bootstrap: the brokers.
        positions: where to begin.
        limits: place → where to end, itself left out; without them there is no end.
        lead_ms: a place whose records are so much newer than another's, where that has more, waits.
    """

    def __init__(
        self,
        bootstrap: str,
        positions: Mapping[Place, int],
        limits: Mapping[Place, int] | None = None,
        lead_ms: int | None = None,
    ) -> None:
        self.positions = dict(positions)
        self.ended: set[Place] = set()
        self.traces: Mapping[int, bytes] = {}
        self.limits, self._lead_ms = limits or {}, lead_ms
        self._newest_ms: dict[Place, int] = {}
        self._fetcher = _Fetcher(bootstrap, sorted({topic for topic, _ in positions}))
        self._thread = Thread(target=self._fetcher.run, name="topics-reader", daemon=True)
        self._thread.start()
        self._coming: Future[_Answer] | None = None

    def poll(self, timeout_s: float = 0.0) -> Iterator[LogBatch]:
        """Yield what has come, in stretches of one partition; waits up to ``timeout_s`` for it.

        Raises:
            BrokerError: the broker fails, or has records at a position no longer.
        """
        if self._coming is None:
            self._coming = self._fetcher.ask(self._wanted(self.positions))
        done, _ = wait([self._coming], timeout_s)
        if not done:
            return
        answer = self._coming.result()
        # Ask for what follows while the caller works on this.
        places = {(part.topic, part.partition): part.records.end for part in answer.parts}
        self._coming = self._fetcher.ask(self._wanted({**self.positions, **places}))
        for part in answer.parts:
            place = (part.topic, part.partition)
            while not part.records.is_taken:
                taken = part.records.take(MAX_BATCH)
                batch, self.traces = self._cut(taken.batch), taken.traceparents
                self.positions[place] = batch.next_offset
                if len(batch):
                    # Not the newest: one record may be dated far into the future.
                    self._newest_ms[place] = int(np.median(batch.timestamps_ms))
                    yield batch
        ends = {**answer.ends, **self.limits}
        self.ended = {
            place for place, at in self.positions.items() if at >= ends.get(place, at + 1)
        }

    def is_over(self) -> bool:
        """Return whether all limits are reached."""
        return all(self.positions[place] >= end for place, end in self.limits.items())

    def close(self) -> None:
        """End what is under way, and the connection."""
        self._fetcher.stop()
        self._thread.join(CLOSE_TIMEOUT_S)

    def _wanted(self, positions: Mapping[Place, int]) -> dict[Place, int]:
        """Return what is to be asked for."""
        left = {p: at for p, at in positions.items() if at < self.limits.get(p, at + 1)}
        if self._lead_ms is None:
            return left
        behind = [self._newest_ms.get(place) for place in left if place not in self.ended]
        times = [time_ms for time_ms in behind if time_ms is not None]
        if not times:
            return left
        if None in behind:
            return {p: at for p, at in left.items() if p in self.ended or p not in self._newest_ms}
        latest_ms = min(times) + self._lead_ms
        return {p: at for p, at in left.items() if self._newest_ms.get(p, 0) <= latest_ms}

    def _cut(self, batch: LogBatch) -> LogBatch:
        """Return the records before the limit."""
        end = self.limits.get((batch.topic, batch.partition), batch.next_offset)
        if batch.next_offset <= end:
            return batch
        n = int(np.searchsorted(batch.offsets, end))
        return LogBatch(
            batch.topic, batch.partition, batch.offsets[:n], batch.timestamps_ms[:n],
            batch.keys[:n], batch.values[:n], end,
        )  # fmt: skip


class _Part:
    """What one answer brought of a partition."""

    def __init__(self, place: TopicPartition, records: FetchedRecords) -> None:
        self.topic, self.partition, self.records = place.topic, place.partition, records


class _Answer:
    """``ends``: place → the end that readers of committed records see."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.ends: dict[Place, int] = {}


class _Fetcher:
    """The requests, in an event loop of a thread."""

    def __init__(self, bootstrap: str, topics: list[str]) -> None:
        self._bootstrap, self._topics = bootstrap, topics
        self._loop = asyncio.new_event_loop()
        self._client: AIOKafkaClient | None = None
        self._working: asyncio.Task[Any] | None = None

    def run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_forever()

    def ask(self, positions: Mapping[Place, int]) -> Future[_Answer]:
        return asyncio.run_coroutine_threadsafe(self._fetch(dict(positions)), self._loop)

    def stop(self) -> None:
        stopping = asyncio.run_coroutine_threadsafe(self._stop(), self._loop)
        with contextlib.suppress(Exception):
            stopping.result(CLOSE_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _stop(self) -> None:
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
        if self._client is not None:
            await self._client.close()

    async def _fetch(self, positions: dict[Place, int]) -> _Answer:
        self._working = asyncio.current_task()
        deadline_s = self._loop.time() + UNAVAILABLE_S
        known = True
        while True:
            try:
                return await self._ask_all(positions, known)
            except (_UnavailableError, KafkaError, OSError) as error:
                known = False
                if self._loop.time() > deadline_s:
                    raise BrokerError(
                        f"{', '.join(self._topics)} can't be read: {error!r}"
                    ) from error
            await asyncio.sleep(_RETRY_S)

    async def _ask_all(self, positions: dict[Place, int], is_known: bool) -> _Answer:
        client = await self._connected()
        cluster = client.cluster
        if not is_known or any(cluster.partitions_for_topic(t) is None for t in self._topics):
            request = MetadataRequest(self._topics, allow_auto_topic_creation=False)
            cluster.update_metadata(await client.send(client.get_random_node(), request))
        by_leader: dict[int, dict[str, list[tuple[int, int, int]]]] = {}
        for (topic, partition), at in positions.items():
            leader = cluster.leader_for_partition(TopicPartition(topic, partition))
            if leader is None or leader == -1:
                raise _UnavailableError(f"{topic} is not there, or has no leader")
            wanted = (partition, at, MAX_PARTITION_BYTES)
            by_leader.setdefault(leader, {}).setdefault(topic, []).append(wanted)
        answers = await asyncio.gather(
            *(self._ask(client, leader, by_topic) for leader, by_topic in by_leader.items())
        )
        found = _Answer()
        for answer in answers:
            found.parts += answer.parts
            found.ends |= answer.ends
        return found

    async def _ask(
        self, client: AIOKafkaClient, leader: int, wanted: dict[str, list[tuple[int, int, int]]]
    ) -> _Answer:
        request = FetchRequest(
            FETCH_WAIT_MS, 1, MAX_FETCH_BYTES, _READ_COMMITTED, list(wanted.items())
        )
        response = await client.send(leader, request)
        found = _Answer()
        for topic, partitions in response.topics:
            for partition, code, _, stable, *_ in partitions:
                error = for_code(code)
                if error is OffsetOutOfRangeError:
                    raise BrokerError(
                        f"{topic} partition {partition} does not hold the offset where the group "
                        "stands: were its records deleted, or the topic made anew?"
                    )
                if error is not NoError:
                    raise _UnavailableError(error.__name__)
                found.ends[topic, partition] = stable
        for place, offset, data, aborted in parts_of(request, response):
            try:
                records = FetchedRecords(place.topic, place.partition, data, offset, aborted)
            except OldFormatError:
                raise BrokerError(
                    f"{place.topic} holds records of a message format before 2"
                ) from None
            found.parts.append(_Part(place, records))
        return found

    async def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            client = AIOKafkaClient(
                bootstrap_servers=self._bootstrap, client_id="kappa-topics-reader"
            )
            try:
                await client.bootstrap()
            except BaseException:
                await client.close()
                raise
            self._client = client
        return self._client
