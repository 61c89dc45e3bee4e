"""One consume → produce hop in Kafka transactions: what is read and what is answered move as one.

A batch goes through these steps; whatever fails, the batch is read again as if it had never been:

1. ``take``: read a micro-batch outside any transaction, so that a rebalance finds none open;
2. the caller computes the answers;
3. ``commit``: begin, produce the answers, add the positions to the transaction, commit.

A position carries, in the metadata of the committed offset, the last *source* offset that was
answered. The producer of the input may emit a stretch again after a crash; what stands at or
before that source offset is not answered twice, and as it commits with the answers, no crash
parts them.

Nothing grows with the backlog: a batch is bounded by records, bytes and time, the client reads
ahead by ``READ_AHEAD_KB`` at most, and a commit waits for the broker, so while that is slow nothing
is taken.

Members share the partitions of the topic they write. What they read for a partition may change
while they hold it, from one version of the features to the next: so they never subscribe to what
they read, and all of the group's positions are there for whoever holds the partition.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import repeat

import structlog
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)

from serving.inference.stretches import Outgoing, Place, Position, Record, Taken, sort_out
from streams.closing import close_client
from streams.errors import BrokerError
from streams.kafka_client import consumer, producer
from streams.time_limit import TimeLimit

IDLE_S = 0.05
MAX_BATCH_BYTES = 16 << 20
READ_AHEAD_KB = 65_536
_SLICE = 1_000
"""Records asked for at once: what is taken passes the limit of bytes by less than these."""
_LOOK_S, _FEW = 0.001, 100
"""A batch ends before its time where so few come in that: at 1,000 a second waiting is latency and
no more, while a backlog makes full batches."""
CALL_TIMEOUT_S = 30.0
MAX_FAILURES = 20
# Transactions are open only while records are on their way, so this bounds how long the positions
# of a worker that died in one stay unreadable for the worker that takes its partitions over.
TRANSACTION_TIMEOUT_MS = 15_000
SESSION_TIMEOUT_MS = 10_000
# The broker refuses a transaction while it still writes the markers of the one before; the client
# then waits for 100 ms by default. Measured on one broker: p90 of a commit 103 ms, with 5 ms: 12.
RETRY_MS = 5

_LOG = structlog.get_logger(__name__)


class TransactionalHop:
    """Answers into ``topic`` as a member of ``group``, in transactions.

    ``inputs`` are all topics that may be read, with as many partitions as ``topic``. After an
    assignment (``assignments`` counts them) nothing is read: ``held`` are the partitions,
    ``committed`` says where the group stands in the inputs, and :meth:`read` begins. ``positions``
    is what is read, and up to where it is answered.

    ``worker`` names the member for good: a restarted worker takes its partitions over at once
    (static membership; the classic protocol, as the newer one keeps them from a member that was
    killed), and its predecessor's open transaction is aborted (one transactional id per group and
    worker). ``transactional=False`` produces and commits one after the other, at least once; it is
    there so that the tests can show that they would notice.

    Raises:
        BrokerError: the broker can't be reached, or refuses repeatedly.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        inputs: Sequence[str],
        group: str,
        worker: str,
        *,
        max_batch: int = 10_000,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        max_wait_ms: int = 5,
        transaction_timeout_ms: int = TRANSACTION_TIMEOUT_MS,
        transactional: bool = True,
    ) -> None:
        self.assignments = 0
        self.held: list[int] = []
        self.positions: dict[Place, Position] = {}
        self.committed: dict[Place, Position] = {}
        self._bootstrap, self._topic, self.inputs = bootstrap, topic, tuple(inputs)
        self._group, self.worker = group, worker
        self._max_batch, self._max_wait_s = max_batch, max_wait_ms / 1000
        self._max_batch_bytes = max_batch_bytes
        self._transaction_timeout_ms = transaction_timeout_ms
        self._transactional = transactional
        self._failures = 0
        self._closing = False
        self._limit = TimeLimit("send offsets")
        self._open()

    def take(self) -> Taken:
        """Return what is there: up to ``max_batch`` records within ``max_wait_ms`` of the first.

        No more are taken once their values have ``max_batch_bytes``, or where few are there.
        """
        try:
            messages = self._consumer.consume(1, IDLE_S)
            if messages:
                messages += self._more(len(messages[0]))
        except KafkaException as error:  # what was read in that call is lost: begin again
            self._give_up(error)
            return Taken([], {})
        self._producer.poll(0)
        records, ends = self._separate(messages)
        return sort_out(records, ends, self.positions)

    def _more(self, size: int) -> list[Record]:
        """Return what comes behind a first record of ``size`` bytes."""
        until_s, more = time.monotonic() + self._max_wait_s, list[Record]()
        while size < self._max_batch_bytes:
            asked = min(_SLICE, self._max_batch - 1 - len(more))
            left_s = max(0.0, until_s - time.monotonic())
            if not asked:
                break
            got = self._consumer.consume(asked, min(_LOOK_S, left_s))
            more += got
            if len(got) < min(asked, _FEW) or (len(got) < asked and not left_s):
                break
            size += sum(map(len, got))
        return more

    def read(self, positions: Mapping[Place, Position]) -> None:
        """Read there, and nowhere else; what is read already goes on where it is."""
        if positions.keys() == self.positions.keys():
            return
        self.positions = {
            place: self.positions.get(place, at) for place, at in sorted(positions.items())
        }
        self._consumer.assign(
            [TopicPartition(*place, at.next_offset) for place, at in self.positions.items()]
        )

    def commit(self, outgoing: Iterable[Outgoing], reached: Mapping[Place, Position]) -> bool:
        """Publish ``outgoing`` and the positions ``reached`` as one.

        Returns False where that failed: nothing of it is visible, the positions are what they were
        and the same records will be taken again.
        """
        offsets = [
            TopicPartition(*place, position.next_offset, position.metadata())
            for place, position in reached.items()
        ]
        try:
            if self._transactional:
                self._commit_transaction(outgoing, offsets)
            else:
                self._commit_apart(outgoing, offsets)
        except KafkaException as error:
            self._give_up(error)
            return False
        except BufferError as error:
            raise BrokerError(
                f"{self._topic}: the answers of one batch don't fit the producer's queue "
                f"({error}); lower max_batch={self._max_batch}"
            ) from error
        self._failures = 0
        self.committed.update(reached)
        for place in reached.keys() & self.positions.keys():
            self.positions[place] = reached[place]
        return True

    def close(self) -> None:
        """Close the connections; what was taken and not committed is left to the next worker."""
        self._closing = True
        close_client(self._consumer, f"consumer of {self._group}")
        with suppress(KafkaException):  # one that was fenced meanwhile says so as it closes
            close_client(self._producer, f"producer of {self._group}")
        self._limit.close()

    # --- the steps of a commit -------------------------------------------------------------------

    def _commit_transaction(
        self, outgoing: Iterable[Outgoing], offsets: list[TopicPartition]
    ) -> None:
        self._producer.begin_transaction()
        self._produce(outgoing)
        self._send_offsets(offsets)
        self._end_transaction()

    def _send_offsets(self, offsets: list[TopicPartition]) -> None:
        # The group's metadata fence: a worker whose partitions went to another can't commit. After
        # the transaction's own time-out nothing could come of it, and the client may wait for ever.
        client, membership = self._producer, self._consumer.consumer_group_metadata()
        limit_s = self._transaction_timeout_ms / 1000
        try:
            self._limit.call(
                limit_s, lambda: client.send_offsets_to_transaction(offsets, membership, limit_s)
            )
        except TimeoutError as error:
            what = f"the offsets are not in the transaction after {limit_s:.0f} s"
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, what)) from error

    def _end_transaction(self) -> None:
        self._producer.commit_transaction(CALL_TIMEOUT_S)

    def _commit_apart(self, outgoing: Iterable[Outgoing], offsets: list[TopicPartition]) -> None:
        self._produce(outgoing)
        self._producer.flush(CALL_TIMEOUT_S)
        self._consumer.commit(offsets=offsets, asynchronous=False)

    def _produce(self, outgoing: Iterable[Outgoing]) -> None:
        # The client's produce_batch takes neither timestamps nor headers (2.16), hence one call
        # per record, made by map without bytecode.
        for records in outgoing:
            calls = map(
                self._producer.produce,
                repeat(records.topic),
                records.values,
                records.keys,
                repeat(records.partition),
                repeat(None),  # callback
                repeat(None),  # on_delivery
                records.timestamps_ms,
                records.headers,
            )
            deque(calls, maxlen=0)

    # --- failing and beginning again -------------------------------------------------------------

    def _give_up(self, failure: KafkaException) -> None:
        """Throw both clients away and begin again from what is committed.

        After a time-out nobody here knows whether the transaction was committed, a fenced client is
        of no more use, and an abort would still leave the reading to be taken back. One way out
        serves all: a new producer with the same id makes the broker end what is open, one way or
        the other, and the committed positions then tell which.
        """
        self._failures += 1
        error: KafkaError = failure.args[0]
        if error.code() == KafkaError.FENCED_INSTANCE_ID:
            raise self._namesake(error) from failure
        _LOG.warning("batch given up, it is read again", topic=self._topic, error=str(error))
        if self._failures > MAX_FAILURES:
            raise BrokerError(
                f"{self._topic}: {self._failures} batches failed one after the other, the last "
                f"with {error}"
            ) from failure
        # Not closed: that would try to abort, which is over for a fenced producer. It is dropped.
        self._producer.purge()
        close_client(self._consumer, f"consumer of {self._group}")
        self._open()

    def _open(self) -> None:
        self._hold_nothing()
        self._producer = self._new_producer()
        self._consumer: Consumer = consumer(
            self._bootstrap,
            group_id=self._group,
            group_instance_id=self.worker,
            partition_assignment_strategy="range",
            session_timeout_ms=SESSION_TIMEOUT_MS,
            queued_max_messages_kbytes=READ_AHEAD_KB,
        )
        self._consumer.subscribe(
            [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def _new_producer(self) -> Producer:
        options = {
            "queue_buffering_max_messages": 1_000_000,
            "queue_buffering_max_kbytes": 1_048_576,
        }
        if not self._transactional:
            return producer(self._bootstrap, **options)
        client = producer(
            self._bootstrap,
            transactional_id=f"{self._group}.{self.worker}",
            transaction_timeout_ms=self._transaction_timeout_ms,
            retry_backoff_ms=RETRY_MS,
            **options,
        )
        try:
            client.init_transactions(CALL_TIMEOUT_S)
        except KafkaException as error:
            raise BrokerError(
                f"transactions of {self._group} at {self._bootstrap} can't begin: {error}"
            ) from error
        return client

    # --- membership; called by the client inside consume and close, never inside a transaction; one
    # that was left behind as it closed may call late, from its own thread -------------------------

    def _assigned(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        if self._closing or client is not self._consumer:
            client.assign([])  # it had not joined yet; a client that closes can't ask for positions
            return
        held = sorted(at.partition for at in partitions)
        wanted = [TopicPartition(topic, p) for topic in self.inputs for p in held]
        found = client.committed(wanted, timeout=CALL_TIMEOUT_S) if wanted else []
        for at in found:
            if at.error is not None:
                raise KafkaException(at.error)
        self.held, self.positions = held, {}
        self.committed = {
            (at.topic, at.partition): Position.of(at) for at in found if at.offset >= 0
        }
        self.assignments += 1
        client.assign([])

    def _revoked(self, client: Consumer, _: list[TopicPartition]) -> None:
        if client is self._consumer:
            self._hold_nothing()

    def _hold_nothing(self) -> None:
        self.held, self.positions, self.committed = [], {}, {}

    # --- reading --------------------------------------------------------------------------------

    def _separate(self, messages: list[Record]) -> tuple[list[Record], dict[Place, int]]:
        """Return the records, and place → end of the log where it was reached."""
        errors = [message.error() for message in messages]
        if not any(errors):
            return messages, {}
        ends: dict[Place, int] = {}
        for message, error in zip(messages, errors, strict=True):
            if error is None:
                continue
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            if error.code() == KafkaError._PARTITION_EOF:
                if topic is not None and partition is not None and offset is not None:
                    ends[topic, partition] = offset
            elif error.fatal() or error.code() == KafkaError._FATAL:
                raise self._namesake(error)
            else:
                _LOG.warning("reading", topic=self._topic, error=str(error))
        return [m for m, error in zip(messages, errors, strict=True) if error is None], ends

    def _namesake(self, error: KafkaError) -> BrokerError:
        return BrokerError(
            f"{self._topic}: worker {self.worker} of group {self._group} must end: {error}; does "
            "another worker of the same name run? Give each a name of its own"
        )
