"""The two control logs: model events (the rollout) and commands. Low volume, one partition each."""

from __future__ import annotations

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from kafka.protocol.consumer.offsets import IsolationLevel

from streams.errors import BrokerError
from streams.kafka_client import consumer, producer, watermarks
from streams.positions import PositionReader
from streams.wire import Command, ModelEvent, model_event_key

APPEND_TIMEOUT_S = 30.0

_EVENTS = msgspec.json.Decoder(ModelEvent)
_COMMANDS = msgspec.json.Decoder(Command)


class ControlFollower:
    """Follows a control topic from its beginning, by ``assign``; partition 0 only."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self.position = 0
        self._bootstrap = bootstrap
        self._consumer = consumer(bootstrap, fetch_wait_max_ms=50)
        self._consumer.assign([TopicPartition(topic, 0, 0)])

    def poll(self, timeout_s: float = 0.0) -> list[bytes]:
        """Return the values of the records that came since; waits up to ``timeout_s`` for one."""
        values: list[bytes] = []
        # Asked for many, it would wait for many; so wait for one, then take what else is there.
        first = self._consumer.consume(1, timeout_s)
        for message in first + (self._consumer.consume(1000, 0.0) if first else []):
            error, offset, value = message.error(), message.offset(), message.value()
            if error is None and offset is not None:
                self.position = offset + 1
                if value is not None:
                    values.append(value)
            elif error is not None and error.code() == KafkaError._PARTITION_EOF:
                self.position = offset if offset is not None else self.position
            elif error is not None and error.fatal():
                raise BrokerError(f"following {self.topic}: {error}")
        return values

    def catch_up(self, timeout_s: float = 30.0, *, with_open: bool = False) -> list[bytes]:
        """Return everything up to the end of the topic as it stands now.

        That is the end that read_committed readers see. ``with_open`` waits for the transactions
        that are open too, whatever becomes of them: a record may be committed and stand behind
        another's transaction, invisible as long as that is open.

        Raises:
            BrokerError: the end isn't reached though nothing comes for ``timeout_s``.
        """
        return self.read_to(self._end(with_open), timeout_s)

    def read_to(self, end: int, timeout_s: float = 30.0) -> list[bytes]:
        """Return everything before the offset ``end``; waits for transactions that hide it.

        Raises:
            BrokerError: it isn't reached though nothing comes for ``timeout_s``.
        """
        values: list[bytes] = []
        waited_s = 0.0
        while self.position < end:
            got = self.poll(0.1)
            values += got
            waited_s = 0.0 if got else waited_s + 0.1
            if waited_s > timeout_s:
                raise BrokerError(f"{self.topic} does not reach its end {end} in {timeout_s} s")
        return values

    def _end(self, with_open: bool) -> int:
        if with_open:
            reader = PositionReader(self._bootstrap)
            try:
                return reader.ends({self.topic: 1}, IsolationLevel.READ_UNCOMMITTED)[self.topic][0]
            finally:
                reader.close()
        try:
            return watermarks(self._consumer, self.topic, 0)[1]
        except KafkaException as error:
            raise BrokerError(f"following {self.topic}: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


def decode_model_events(values: list[bytes]) -> list[ModelEvent]:
    """Return the typed events of a stretch of the models topic."""
    return [_EVENTS.decode(value) for value in values]


def decode_command(value: bytes) -> Command:
    """Return the typed command; raises msgspec.DecodeError where it is none."""
    command: Command = _COMMANDS.decode(value)
    return command


class ControlWriter:
    """Appends to the control logs, idempotently, and waits until the broker has it."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = producer(bootstrap, linger_ms=0)

    def append_model_event(self, topic: str, event: ModelEvent, nonce: str = "") -> int:
        """Append to ``P.models.v1``; return the offset.

        A record with a ``nonce`` of its own is never compacted away.
        """
        key = model_event_key(event) + (f"/{nonce}".encode() if nonce else b"")
        return self._append(topic, key, msgspec.json.encode(event))

    def append_command(self, topic: str, command: Command) -> int:
        """Append to ``P.commands.v1``; return the offset."""
        return self._append(topic, command.command_id.encode(), msgspec.json.encode(command))

    def _append(self, topic: str, key: bytes, value: bytes) -> int:
        failures: list[KafkaError] = []
        offsets: list[int] = []

        def delivered(error: KafkaError | None, message: Message[bytes, bytes]) -> None:
            offset = message.offset()
            if error is not None:
                failures.append(error)
            elif offset is not None:
                offsets.append(offset)

        self._producer.produce(topic, value, key, on_delivery=delivered)
        if self._producer.flush(APPEND_TIMEOUT_S) or failures or not offsets:
            raise BrokerError(f"a record could not be appended to {topic}: {failures or 'timeout'}")
        return offsets[0]
