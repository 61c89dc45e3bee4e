"""What the log was written with: the types of its source topics and the definitions, in a log.

``P.schemas.v1`` keeps everything, one partition. A record is never changed: where two processes
start at once and both write a version of the same number, the first in the log is the one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from streams.control import ControlFollower
from streams.errors import BrokerError, StateError
from streams.kafka_client import producer
from streams.record_schema import Schema
from streams.topics import KEEP_FOREVER, TopicSpec, ensure_topics
from streams.wire import Positions

APPEND_TIMEOUT_S = 30.0


class TypeRegistered(msgspec.Struct, frozen=True, tag="type"):
    """From ``since`` on (the ends of ``topic`` then), its records are of this type.

    ``fields`` maps a role (id, entity, event_time) to the field that has it; ``changes`` says in
    words what differs from the version before, and how it was taken.
    """

    topic: str
    version: int
    schema: Schema
    fields: dict[str, str]
    since: Positions
    changes: list[str]


class DefinitionRegistered(msgspec.Struct, frozen=True, tag="definition"):
    """A definition computes features; ``features`` are its declarations, for people.

    ``types`` are the versions of the source topics' types with which it began.
    """

    version: int
    hash: str
    features: dict[str, str]
    types: dict[str, int]


SchemaEvent = TypeRegistered | DefinitionRegistered

_DECODE = msgspec.json.Decoder(SchemaEvent).decode


@dataclass(frozen=True)
class Registry:
    """What the log of types says: topic → versions in order, and version → definition."""

    types: Mapping[str, tuple[TypeRegistered, ...]] = field(default_factory=dict)
    definitions: Mapping[int, DefinitionRegistered] = field(default_factory=dict)

    def apply(self, event: SchemaEvent) -> Registry:
        """Return the state after ``event``."""
        if isinstance(event, DefinitionRegistered):
            return replace(self, definitions={**self.definitions, event.version: event})
        versions = self.types.get(event.topic, ())
        if event.version != len(versions) + 1:
            return self  # another process was quicker
        return replace(self, types={**self.types, event.topic: (*versions, event)})

    def written(self, topic: str, ends: Mapping[int, int]) -> list[TypeRegistered]:
        """Return the versions of which ``topic``, which ends at ``ends``, holds records."""
        versions = self.types.get(topic, ())
        now = {str(partition): end for partition, end in ends.items()}
        until = [*(version.since for version in versions[1:]), now]
        return [
            version
            for version, end in zip(versions, until, strict=True)
            if any(at > version.since.get(p, 0) for p, at in end.items())
        ]


class SchemaLog:
    """Reads and writes ``P.schemas.v1``, which it makes where it is missing.

    Raises:
        BrokerError: the broker can't be reached, or refuses.
        TopicMismatchError: the topic exists and is not what it must be.
    """

    def __init__(self, bootstrap: str, pipeline: str, replication: int = 1) -> None:
        self.topic = schemas_topic(pipeline)
        ensure_topics(bootstrap, [TopicSpec(self.topic, 1, KEEP_FOREVER)], replication)
        self._follower = ControlFollower(bootstrap, self.topic)
        self._producer = producer(bootstrap, linger_ms=0)
        self._registry = Registry()

    def read(self) -> Registry:
        """Return what the log says by now.

        Raises:
            StateError: a record there is none of these.
        """
        for value in self._follower.catch_up():
            try:
                self._registry = self._registry.apply(_DECODE(value))
            except msgspec.MsgspecError as error:
                raise StateError(
                    f"{self.topic} holds a record that this version does not know ({error}): "
                    "another program, or a newer version of this one, wrote it"
                ) from error
        return self._registry

    def append(self, events: list[SchemaEvent]) -> Registry:
        """Append ``events`` and return what the log says then, which may be others' words."""
        failures: list[str] = []
        for event in events:
            self._producer.produce(
                self.topic,
                msgspec.json.encode(event),
                _key(event),
                on_delivery=lambda error, _: failures.append(str(error)) if error else None,
            )
        if self._producer.flush(APPEND_TIMEOUT_S) or failures:
            raise BrokerError(
                f"records could not be appended to {self.topic}: {failures or 'time-out'}"
            )
        return self.read()

    def close(self) -> None:
        """Close the connection."""
        self._follower.close()


def schemas_topic(pipeline: str) -> str:
    """Return the name of the topic that says what the pipeline's log was written with."""
    return f"{pipeline}.schemas.v1"


def _key(event: SchemaEvent) -> bytes:
    match event:
        case TypeRegistered():
            return f"type/{event.topic}/{event.version}".encode()
        case DefinitionRegistered():
            return f"definition/{event.version}".encode()
