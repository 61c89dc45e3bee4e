"""Dead letters sent back to where they came from, each at most once unless it is asked again.

1. The letters are read from the dead-letter topic.
2. A :class:`streams.wire.Retried` with their offsets is written to the commands.
3. The commands are read up to it: letters that an earlier one names are left out. So of two who ask
   at once each letter is sent by the first in the log.
4. The original bytes go to the original topic and partition, with the original time, and a header
   that says which letter they are.

A process that dies between 2 and 4 has sent some of them: what it named is sent again only where it
is asked ``again``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import msgspec
from confluent_kafka import KafkaError, Message, TopicPartition

from streams.control import ControlFollower, ControlWriter
from streams.dead_letters import DUPLICATE_EVENT, NULL_VALUE
from streams.errors import BrokerError, ConfigurationError
from streams.kafka_client import consumer, producer, watermarks
from streams.topics import Topics, dead_letter_topic
from streams.wire import Command, Retried

RETRY_OF = "kappa-retry-of"
"""Header of a record that was sent back: ``<dead-letter topic>/<partition>/<offset>``."""

MOST = 10_000
"""Dead letters that one command sends back."""

HOPELESS = (NULL_VALUE, DUPLICATE_EVENT)
"""Classes of failure that the same bytes will have again, whatever has changed."""

SILENT_S, FLUSH_S = 15.0, 30.0

_COMMANDS = msgspec.json.Decoder(Command)


@dataclass(frozen=True)
class Letter:
    """A dead letter: its offset, its origin and what it held."""

    offset: int
    topic: str
    partition: int
    error: str
    key: bytes | None
    value: bytes | None
    timestamp_ms: int


@dataclass(frozen=True)
class Retry:
    """What was done: offsets that were sent, that had been sent before, that hold no letter, and
    that are left as the same bytes would fail again. ``left``: more were there than one command
    sends."""

    command_id: str
    sent: tuple[int, ...] = ()
    before: tuple[int, ...] = ()
    absent: tuple[int, ...] = ()
    hopeless: tuple[int, ...] = ()
    left: bool = False


def retry(
    bootstrap: str,
    topics: Topics,
    topic: str,
    reason: str,
    offsets: Sequence[int] | None = None,
    again: bool = False,
) -> Retry:
    """Send dead letters of ``topic`` back; ``offsets`` None: all that were not yet and may help.

    Raises:
        ConfigurationError: ``topic`` holds no dead letters of this pipeline, or too many are named.
        BrokerError: the broker fails; what was named in the log stays so.
    """
    if topic not in (dead_letter_topic(topics.events), dead_letter_topic(topics.labels)):
        raise ConfigurationError(f"{topic} is no dead-letter topic of pipeline {topics.name}")
    if offsets is not None and len(offsets) > MOST:
        raise ConfigurationError(f"{len(offsets):,} offsets: {MOST:,} are sent back at once")
    follower = ControlFollower(bootstrap, topics.commands)
    try:
        known = times_sent(topic, follower.catch_up())
        letters = read_letters(bootstrap, topic)
        plan = planned(letters, offsets, known, again)
        wanted = {letter.offset: letter for letter in letters if letter.offset in set(plan.sent)}
        if not wanted:
            return plan
        command = Retried(plan.command_id, topic, plan.sent, reason, again)
        at = ControlWriter(bootstrap).append_command(topics.commands, command)
        others = follower.read_to(at + 1)
    finally:
        follower.close()
    taken = () if again else tuple(sorted(set(wanted) & set(_named_before(topic, command, others))))
    sent = tuple(offset for offset in plan.sent if offset not in taken)
    _send(bootstrap, topic, [wanted[offset] for offset in sent])
    return replace(plan, sent=sent, before=tuple(sorted({*plan.before, *taken})))


def planned(
    letters: Iterable[Letter], offsets: Sequence[int] | None, known: Counter[int], again: bool
) -> Retry:
    """Return what is to be sent: pure."""
    there = {letter.offset: letter for letter in letters}
    wanted = sorted(there) if offsets is None else sorted(set(offsets))
    present = [offset for offset in wanted if offset in there]
    hopeless = (
        [o for o in present if there[o].error in HOPELESS and not again] if offsets is None else []
    )
    before = [o for o in present if known[o] and not again and o not in set(hopeless)]
    sent = [o for o in present if o not in {*hopeless, *before}]
    return Retry(
        f"retry-{uuid4().hex[:12]}",
        tuple(sent[:MOST]),
        tuple(before),
        tuple(offset for offset in wanted if offset not in there),
        tuple(hopeless),
        len(sent) > MOST,
    )


def times_sent(topic: str, commands: Iterable[bytes]) -> Counter[int]:
    """Return offset → how often the log says that the dead letter was sent back."""
    counts: Counter[int] = Counter()
    claimed: set[int] = set()
    for command in _decoded(commands):
        if isinstance(command, Retried) and command.topic == topic:
            offsets = command.offsets if command.again else set(command.offsets) - claimed
            counts.update(offsets)
            claimed |= set(command.offsets)
    return counts


def read_letters(bootstrap: str, topic: str) -> list[Letter]:
    """Return the dead letters of a topic; records without their headers are left out.

    Raises:
        BrokerError: the broker fails, or sends nothing before the end.
    """
    client = consumer(bootstrap)
    try:
        begin, end = watermarks(client, topic, 0)
        client.assign([TopicPartition(topic, 0, begin)])
        letters, position, silent_s = [], begin, 0.0
        while position < end:
            messages = client.consume(1_000, 0.1)
            silent_s = 0.0 if messages else silent_s + 0.1
            if silent_s > SILENT_S:
                raise BrokerError(f"reading {topic}: no record for {SILENT_S:.0f} s")
            for message in messages:
                error = message.error()
                if error is None:
                    letter = letter_of(message)
                    # Others were not written by this pipeline: nobody sends them anywhere.
                    if letter is not None and dead_letter_topic(letter.topic) == topic:
                        letters.append(letter)
                    position = (message.offset() or 0) + 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    position = end
                else:
                    raise BrokerError(f"reading {topic}: {error}")
        return letters
    finally:
        client.close()


def letter_of(message: Message[bytes, bytes]) -> Letter | None:
    """Return the dead letter that a record is; None where its headers don't say."""
    headers = headers_of(message)
    try:
        return Letter(
            message.offset() or 0,
            headers["topic"].decode(),
            int(headers["partition"]),
            headers["error"].decode(),
            message.key(),
            message.value(),
            message.timestamp()[1],
        )
    except (KeyError, ValueError):
        return None


def headers_of(message: Message[bytes, bytes]) -> dict[str, bytes]:
    """Return a record's headers; of those of one name the last."""
    pairs: Any = message.headers() or []
    return {name: value or b"" for name, value in pairs}


def _named_before(topic: str, command: Retried, others: Iterable[bytes]) -> set[int]:
    named: set[int] = set()
    for other in _decoded(others):
        if isinstance(other, Retried) and other.topic == topic:
            if other.command_id == command.command_id:
                break
            named |= set(other.offsets)
    return named


def _decoded(values: Iterable[bytes]) -> Iterable[Command]:
    for value in values:
        try:
            yield _COMMANDS.decode(value)
        except msgspec.MsgspecError:
            continue  # no command; whoever obeys them says so


def _send(bootstrap: str, topic: str, letters: Sequence[Letter]) -> None:
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message[bytes, bytes]) -> None:
        if error is not None:
            failures.append(error)

    client = producer(bootstrap, linger_ms=5)
    for letter in letters:
        client.produce(
            letter.topic,
            letter.value,
            letter.key,
            letter.partition,
            on_delivery=delivered,
            timestamp=letter.timestamp_ms,
            headers=[(RETRY_OF, f"{topic}/0/{letter.offset}".encode())],
        )
        client.poll(0)
    if client.flush(FLUSH_S) or failures:
        raise BrokerError(
            f"dead letters of {topic} were not all taken by the broker: "
            f"{failures[0] if failures else 'no answer'}; see which are missing by their header "
            f"{RETRY_OF}, and send those again"
        )
