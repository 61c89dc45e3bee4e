"""The two control logs: model events (the rollout) and commands. Low volume, one partition each."""

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from streams.errors import BrokerError
from streams.wire import Command, ModelEvent, model_event_key

_EVENTS = msgspec.json.Decoder(ModelEvent)
_COMMANDS = msgspec.json.Decoder(Command)


class ControlFollower:
    """Follows a control topic from its beginning, by ``assign``; partition 0 only."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self.position = 0
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "kappa-control-unused",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
            }
        )
        self._consumer.assign([TopicPartition(topic, 0, 0)])

    def poll(self, timeout_s: float = 0.0) -> list[bytes]:
        """Return the values of the records that came since; waits up to ``timeout_s`` for one."""
        values = []
        for message in self._consumer.consume(1000, timeout_s):
            error = message.error()
            if error is None:
                self.position = message.offset() + 1
                if message.value() is not None:
                    values.append(message.value())
            elif error.code() == KafkaError._PARTITION_EOF:
                self.position = message.offset()
            elif error.fatal():
                raise BrokerError(f"following {self.topic}: {error}")
        return values

    def catch_up(self, timeout_s: float = 30.0) -> list[bytes]:
        """Return everything up to the end of the topic as it stands now."""
        try:
            end = self._consumer.get_watermark_offsets(TopicPartition(self.topic, 0), timeout=10)[1]
        except KafkaException as error:
            raise BrokerError(f"following {self.topic}: {error}") from error
        values = []
        waited_s = 0.0
        while self.position < end:
            got = self.poll(0.1)
            values += got
            waited_s = 0.0 if got else waited_s + 0.1
            if waited_s > timeout_s:
                raise BrokerError(f"{self.topic} does not reach its end {end} in {timeout_s} s")
        return values

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


def decode_model_events(values: list[bytes]) -> list[ModelEvent]:
    """Return the typed events of a stretch of the models topic."""
    return [_EVENTS.decode(value) for value in values]


def decode_command(value: bytes) -> Command:
    """Return the typed command; raises msgspec.DecodeError where it is none."""
    return _COMMANDS.decode(value)


class ControlWriter:
    """Appends to the control logs, idempotently, and waits until the broker has it."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 0}
        )

    def append_model_event(self, topic: str, event: ModelEvent) -> None:
        """Append to ``P.models.v1``."""
        self._append(topic, model_event_key(event), msgspec.json.encode(event))

    def append_command(self, topic: str, command: Command) -> None:
        """Append to ``P.commands.v1``."""
        self._append(topic, command.command_id.encode(), msgspec.json.encode(command))

    def _append(self, topic: str, key: bytes, value: bytes) -> None:
        failures: list[KafkaError] = []
        self._producer.produce(
            topic, value, key, on_delivery=lambda error, _: failures.append(error) if error else 0
        )
        if self._producer.flush(30) or failures:
            raise BrokerError(f"a record could not be appended to {topic}: {failures or 'timeout'}")
