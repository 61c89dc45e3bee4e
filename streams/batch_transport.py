"""A Faust transport that hands an agent whole fetched stretches of a partition, not single events.

Faust calls the agent once per :class:`Fetched`, so its cost per event is that of the fetch. What
the agent has done is counted here, not by Faust: the topic is declared without acknowledgements,
the *owner* (:class:`PartitionOwner`) says where reading starts, and :meth:`BatchConsumer.done` is
the only thing that moves the group's committed offsets.

At a rebalance Faust stops the flow and drops what it has buffered; then the owner gives its
partitions up, and at the new assignment says again where to read. So a stretch that was fetched and
dropped is fetched again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol, cast

import aiokafka
import faust
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.bulk_fetching import BulkFetches
from streams.collector import spare_what_stays
from streams.record_parsing import Fetched as Fetched
from streams.record_parsing import warm_up

MAX_RECORDS = 4_000
"""Per batch: with 10,000 the objects of a batch leave the processor's cache, a quarter slower."""
MAX_FETCH_BYTES = 4 << 20
FETCH_WAIT_S = 0.1
"""How long one look for new records waits; what it finds comes at once."""
BUFFERED_BATCHES = 4
SESSION_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """A partition at its assignment: group's committed offset, log start, log end."""

    committed: int | None
    first: int
    end: int


class PartitionOwner(Protocol):
    """Keeps a state per partition and knows where each goes on."""

    async def assigned(self, partitions: Mapping[int, Bounds]) -> Mapping[int, int]:
        """Return the offset from which to read each partition; called at every (re)assignment."""
        ...

    async def revoked(self, partitions: set[int]) -> None:
        """Finish what is in hand of these partitions and let go of their state."""
        ...


class _Forgetful(dict[TP, "int | None"]):
    """In place of Faust's read offsets, by which it would drop what it takes for a repetition."""

    def __getitem__(self, tp: TP) -> None:
        return None

    def __setitem__(self, tp: TP, offset: int | None) -> None:
        return None


class BatchConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """The thread in which aiokafka fetches; folds what it fetched into batches."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        warm_up()  # before the group waits for this member
        conf = self.app.conf
        self._assignor = driver.RoundRobinPartitionAssignor
        consumer = aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=MAX_RECORDS,
            max_partition_fetch_bytes=MAX_FETCH_BYTES,
            fetch_max_wait_ms=int(FETCH_WAIT_S * 1000),
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
        )
        self._fetches = BulkFetches(consumer)
        return consumer

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: Iterable[TP],
        timeout: float | None = None,  # noqa: ARG002 - Faust waits a second, too long
        max_records: int | None = None,  # noqa: ARG002 - as many for each partition
    ) -> dict[TP, list[Any]]:
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError()
        with fetcher._subscriptions.fetch_context():
            fetched = await self._fetches.take(
                fetcher, set(active_partitions or ()), MAX_RECORDS, FETCH_WAIT_S
            )
        return {tp: [_message(stretch)] for tp, stretch in fetched.items()}

    async def bounds(self, topic: str) -> dict[int, Bounds]:
        """Return partition → bounds for what is assigned of ``topic``."""
        consumer = self._ensure_consumer()
        tps = [tp for tp in consumer.assignment() if tp.topic == topic]
        if not tps:
            return {}
        first, end = await asyncio.gather(
            consumer.beginning_offsets(tps), consumer.end_offsets(tps)
        )
        committed = await asyncio.gather(*(consumer.committed(tp) for tp in tps))
        return {
            tp.partition: Bounds(offset, first[tp], end[tp])
            for tp, offset in zip(tps, committed, strict=True)
        }

    async def seek_to(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Go on reading at these offsets."""
        consumer = self._ensure_consumer()
        for partition, offset in offsets.items():
            consumer.seek(TopicPartition(topic, partition), offset)

    async def leave_at_stop(self) -> None:
        """Have the stop leave the group; a static member would keep its partitions for a session.

        aiokafka lets only members without a static name leave, and the broker asks for none.
        """
        self._ensure_consumer()._coordinator._group_instance_id = None

    async def commit_offsets(self, topic: str, offsets: Mapping[int, int]) -> bool:
        """Commit next offsets; False where the partitions were lost meanwhile."""
        consumer = self._ensure_consumer()
        try:
            await consumer.commit(
                {TopicPartition(topic, p): OffsetAndMetadata(o, "") for p, o in offsets.items()}
            )
        except (CommitFailedError, IllegalStateError) as error:
            # Whoever has the partition now does the stretch again: the same bytes.
            self.log.warning("offsets %r of %s not committed: %s", offsets, topic, error)
            return False
        return True


class BatchConsumer(driver.Consumer):  # type: ignore[misc]
    """Faust's consumer, reading from where the owner says and committing what the owner did."""

    owner: ClassVar[PartitionOwner]
    topic: ClassVar[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset = _Forgetful()
        self._done: dict[int, int] = {}
        self._committing = asyncio.Lock()

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def on_buffer_full(self, tp: TP) -> None:
        """Do nothing: a full buffer blocks the fetcher, which is all the flow control needed."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Do nothing."""

    async def perform_seek(self) -> None:
        """Ask the owner where to read each assigned partition, and go there."""
        thread = self._batch_thread
        bounds = await thread.call_thread(thread.bounds, self.topic)
        offsets = await self.owner.assigned(bounds)
        await thread.call_thread(thread.seek_to, self.topic, offsets)
        spare_what_stays()  # the states of the partitions among it

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Stop the flow, then have the owner let go."""
        await super().on_partitions_revoked(revoked)
        partitions = {tp.partition for tp in revoked if tp.topic == self.topic}
        await self.owner.revoked(partitions)
        for partition in partitions:
            self._done.pop(partition, None)

    def done(self, partition: int, next_offset: int) -> None:
        """Say that everything before ``next_offset`` is done; :meth:`commit_done` commits it."""
        self._done[partition] = next_offset

    async def commit_done(self) -> None:
        """Commit what is done since the last commit."""
        async with self._committing:
            offsets, self._done = self._done, {}
            if offsets:
                thread = self._batch_thread
                await thread.call_thread(thread.commit_offsets, self.topic, offsets)

    async def leave_at_stop(self) -> None:
        """Give the partitions to the other workers at the stop that follows."""
        await self._batch_thread.call_thread(self._batch_thread.leave_at_stop)

    async def ends(self) -> dict[int, int]:
        """Return the end of each assigned partition, as the broker says now."""
        thread = self._batch_thread
        bounds = await thread.call_thread(thread.bounds, self.topic)
        return {partition: bound.end for partition, bound in bounds.items()}

    @property
    def _batch_thread(self) -> BatchConsumerThread:
        return cast(BatchConsumerThread, self._thread)


class _Verbatim(faust.Schema):  # type: ignore[misc]
    """Passes the value on as the transport made it."""

    def loads_key(self, *_: Any, **__: Any) -> Any:
        return None

    def loads_value(self, _: Any, message: Any, **__: Any) -> Any:
        return message.value


def batch_app(
    bootstrap: str,
    group: str,
    topic: str,
    owner: PartitionOwner,
    handle: Callable[[Fetched], Awaitable[None]],
    folder: Path,
    instance: str | None = None,
) -> faust.App:
    """Return a Faust app of consumer group ``group`` that awaits ``handle`` for each batch.

    ``handle`` must not raise (Faust would restart the agent and go on behind the failure): it
    reports a failure to whoever can stop the process. ``instance`` is the worker's static name in
    the group: one that comes back under its name gets its partitions without waiting for the
    session of the one before to end. ``folder`` is for Faust's own files.
    """
    app = faust.App(
        group,
        broker=f"aiokafka://{bootstrap}",
        store="memory://",
        datadir=str(folder),
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        reply_create_topic=False,
        stream_buffer_maxsize=BUFFERED_BATCHES,
        broker_max_poll_records=MAX_RECORDS,
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=1.0,
        broker_rebalance_timeout=30.0,
        broker_request_timeout=40.0,
        consumer_group_instance_id=instance,
        logging_config=None,
    )
    consumer = type("BoundConsumer", (BatchConsumer,), {"owner": owner, "topic": topic})
    transport = type("BatchTransport", (driver.Transport,), {"Consumer": consumer})
    app.transport = transport(app.conf.broker_consumer, app)

    async def batches(stream: Any) -> None:
        async for fetched in stream:
            await handle(fetched)

    app.agent(app.topic(topic, schema=_Verbatim(), acks=False), name="batches")(batches)
    return app


def _message(fetched: Fetched) -> Any:
    """Return one record, as Faust expects it, whose value is the whole stretch."""
    batch = fetched.batch
    return SimpleNamespace(
        topic=batch.topic,
        partition=batch.partition,
        offset=batch.next_offset - 1,
        timestamp=int(batch.timestamps_ms[-1]) if len(batch) else None,
        timestamp_type=0,
        headers=(),
        key=None,
        value=fetched,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
    )
