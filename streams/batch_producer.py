"""Sending batches that are encoded already: in order, without a gap, acknowledged by all replicas.

aiokafka's idempotent producer carries them (connections, leaders, retries under the same sequence
numbers); only the payload is made here. A partition's next batch is given to it once the one before
is acknowledged. So whoever sees a record knows that all before it are there, whatever fails.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Thread

from aiokafka import AIOKafkaProducer

from streams.errors import BrokerError
from streams.record_batch import RecordBatch

CLOSE_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_MS = 30_000
RETRY_BACKOFF_MS = 50

_SEQUENCE_BITS = 0x7FFF_FFFF

MakeBatches = Callable[[], Sequence[RecordBatch]]


class BatchProducer:
    """Sends from a thread of its own, in which the batches are made too.

    It connects when the first batch comes. After the first failure everything fails that is not
    acknowledged, and everything that comes later.
    """

    def __init__(self, bootstrap: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._sender = _Sender(bootstrap)
        self._thread = Thread(target=self._run, name="batch-producer", daemon=True)
        self._thread.start()

    def send(self, topic: str, partition: int, make_batches: MakeBatches) -> Future[None]:
        """Queue what ``make_batches`` returns behind what was sent to the partition before.

        The future is set, in the producer's thread, when the broker has it all. Its exception is a
        BrokerError where that failed; then nothing that was sent later stands in the partition.
        """
        parcel = _Parcel(topic, partition, make_batches)
        self._loop.call_soon_threadsafe(self._sender.put, parcel)
        return parcel.acknowledged

    def close(self) -> None:
        """Stop; what is not acknowledged by now is given up."""
        self._loop.call_soon_threadsafe(self._sender.stop)
        self._thread.join(2 * CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._sender.run())


@dataclass(eq=False, slots=True)
class _Parcel:
    """What one call sends to one partition."""

    topic: str
    partition: int
    make_batches: MakeBatches
    acknowledged: Future[None] = field(default_factory=Future)


class _Sender:
    """What runs in the producer's event loop; all its methods are called there."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._queues: dict[tuple[str, int], asyncio.Queue[_Parcel]] = {}
        self._pumps: list[asyncio.Task[None]] = []
        self._outstanding: set[_Parcel] = set()
        self._starting: asyncio.Task[AIOKafkaProducer] | None = None
        self._failure: BrokerError | None = None
        self._stopping = asyncio.Event()

    def put(self, parcel: _Parcel) -> None:
        if self._failure is not None:
            parcel.acknowledged.set_exception(self._failure)
            return
        place = parcel.topic, parcel.partition
        if place not in self._queues:
            self._queues[place] = asyncio.Queue()
            self._pumps.append(asyncio.create_task(self._pump(self._queues[place])))
        self._outstanding.add(parcel)
        self._queues[place].put_nowait(parcel)

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        await self._stopping.wait()
        self._fail(BrokerError("the producer was closed before the broker had acknowledged"))
        await asyncio.gather(*self._pumps, return_exceptions=True)
        if self._starting is not None:
            with contextlib.suppress(Exception):
                await _stop(await asyncio.wait_for(self._starting, CLOSE_TIMEOUT_S))
        left = asyncio.all_tasks() - {asyncio.current_task()}  # where the broker does not answer
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _pump(self, queue: asyncio.Queue[_Parcel]) -> None:
        """Send what comes for a partition, one batch after the other."""
        while True:
            parcel = await queue.get()
            try:
                await self._deliver(parcel)
            except Exception as error:
                self._fail(
                    BrokerError(
                        f"{parcel.topic} partition {parcel.partition} did not take a record "
                        f"({error!r}); the worker stops and, started again, goes on from the last "
                        "acknowledged one"
                    )
                )
                return
            self._outstanding.discard(parcel)
            parcel.acknowledged.set_result(None)

    async def _deliver(self, parcel: _Parcel) -> None:
        batches = parcel.make_batches()
        if self._starting is None:
            self._starting = asyncio.create_task(_start(self._bootstrap))
        producer = await asyncio.shield(self._starting)
        for batch in batches:
            sent = await producer.send_batch(
                _Payload(batch), parcel.topic, partition=parcel.partition
            )
            await sent

    def _fail(self, failure: BrokerError) -> None:
        if self._failure is not None:
            return
        self._failure = failure
        for parcel in self._outstanding:
            parcel.acknowledged.set_exception(failure)
        self._outstanding.clear()
        for pump in self._pumps:
            pump.cancel()  # a batch under way may still arrive: all before it have


class _Payload:
    """In place of aiokafka's batch builder: the bytes are there, but for the sequence number."""

    def __init__(self, batch: RecordBatch) -> None:
        self._batch = batch
        self._payload = b""

    def _set_producer_state(self, producer_id: int, epoch: int, base_sequence: int) -> None:
        # Sequence numbers begin anew after 2³¹ - 1; aiokafka's go on below zero.
        self._payload = self._batch.to_bytes(producer_id, epoch, base_sequence & _SEQUENCE_BITS)

    def _build(self) -> bytes:
        return self._payload

    def record_count(self) -> int:
        return self._batch.count

    def size(self) -> int:
        return self._batch.size

    def closed(self) -> bool:
        return True

    def close(self) -> None:
        pass


async def _start(bootstrap: str) -> AIOKafkaProducer:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        enable_idempotence=True,
        acks="all",
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        retry_backoff_ms=RETRY_BACKOFF_MS,
    )
    try:
        await producer.start()
    except BaseException:
        await _stop(producer)
        raise
    return producer


async def _stop(producer: AIOKafkaProducer) -> None:
    try:
        await asyncio.wait_for(producer.stop(), CLOSE_TIMEOUT_S)
    finally:
        await producer.client.close()
