"""Outcomes and the positions of all inputs, published in one Kafka transaction.

There is one such worker: whoever begins with the transactional id ends its predecessor's open
transaction and fences it for good, so what is committed then stays what it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import repeat

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from serving.inference.stretches import Outgoing, Place
from streams.closing import close_client
from streams.errors import BrokerError
from streams.group_offsets import coordinated
from streams.kafka_client import consumer, producer
from streams.time_limit import TimeLimit

CALL_TIMEOUT_S = 30.0
TRANSACTION_TIMEOUT_MS = 60_000
RETRY_MS = 5
QUEUE = 1_000_000


class Publisher:
    """The transactional producer of ``group``. KafkaExceptions are the caller's to see to: begin
    again from what is committed, with a publisher made anew.

    Raises:
        BrokerError: transactions can't begin.
    """

    def __init__(self, bootstrap: str, group: str) -> None:
        self._producer = producer(
            bootstrap,
            transactional_id=group,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            retry_backoff_ms=RETRY_MS,
            queue_buffering_max_messages=QUEUE,
            queue_buffering_max_kbytes=1_048_576,
            linger_ms=20,
        )
        try:
            self._producer.init_transactions(CALL_TIMEOUT_S)
        except KafkaException as error:
            raise BrokerError(f"transactions of {group} can't begin: {error}") from error
        self._group = consumer(bootstrap, group_id=group)  # it reads nothing
        self._limit = TimeLimit("send positions")

    def begin(self) -> None:
        """Begin a transaction; what is produced from here on is seen once it is committed."""
        self._producer.begin_transaction()

    def produce(self, outgoing: Sequence[Outgoing]) -> None:
        """Hand records to the client, which sends them beside."""
        # One call per record, made by map without bytecode: see the inference worker's hop.
        for records in outgoing:
            calls = map(
                self._producer.produce,
                repeat(records.topic),
                records.values,
                records.keys,
                repeat(records.partition),
                repeat(None),
                repeat(None),
                records.timestamps_ms,
                records.headers,
            )
            deque(calls, maxlen=0)
        self._producer.poll(0)

    def committed(self, places: Sequence[Place]) -> dict[Place, int]:
        """Return the next offset of each place that the group has one of.

        Nobody else can commit since this publisher was made, so the positions are final.

        Raises:
            BrokerError: the broker does not tell.
        """
        wanted = [TopicPartition(*place) for place in places]
        try:
            found = coordinated(lambda: self._group.committed(wanted, timeout=CALL_TIMEOUT_S))
        except KafkaException as error:
            raise BrokerError(f"the positions of {places} can't be read: {error}") from error
        for at in found:
            if at.error is not None:
                raise BrokerError(f"the position in {at.topic} can't be read: {at.error}")
        return {(at.topic, at.partition): at.offset for at in found if at.offset >= 0}

    def commit(self, positions: Mapping[Place, int], notes: Mapping[Place, str]) -> None:
        """Commit what was produced, and with it the positions; ``notes`` stand beside some."""
        offsets = [
            TopicPartition(*place, at, notes.get(place, "")) for place, at in positions.items()
        ]
        client, membership = self._producer, self._group.consumer_group_metadata()
        try:  # after a broker's restart the client may wait for ever
            self._limit.call(
                CALL_TIMEOUT_S,
                lambda: client.send_offsets_to_transaction(offsets, membership, CALL_TIMEOUT_S),
            )
        except TimeoutError as error:
            what = f"the positions are not in the transaction after {CALL_TIMEOUT_S:.0f} s"
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, what)) from error
        self._producer.commit_transaction(CALL_TIMEOUT_S)

    def close(self) -> None:
        """Let go of the connections; what was not committed is nobody's."""
        with suppress(KafkaException):
            self._producer.purge()
            close_client(self._producer, "producer of outcomes")
        close_client(self._group, "consumer of outcomes")
        self._limit.close()

    def drop(self) -> None:
        """Let go after a failure: closing would try to end a transaction that nobody knows of."""
        self._producer.purge()
        close_client(self._group, "consumer of outcomes")
        self._limit.close()
