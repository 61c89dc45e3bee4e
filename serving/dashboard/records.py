"""The record browser: a few records of a topic, from an offset, a time or the end."""

from __future__ import annotations

import base64
import time
from codecs import getincrementaldecoder
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from serving.dashboard.documents.topics import Record, Records
from serving.dashboard.retrying import headers_of
from streams.errors import BrokerError, ConfigurationError
from streams.kafka_client import consumer, watermarks

SCANNED, LIMIT = 50_000, 200
SHOWN_BYTES = 16_384
SHOWN_HEADERS, SHOWN_TEXT, DEEPEST = 50, 1_000, 50
LONGEST_S = 10.0
SLICE = 500

Format = Literal["json", "text", "binary", "empty"]


@dataclass(frozen=True)
class Wanted:
    """Which records are asked for.

    One of ``offset``, ``time_ms`` (the first whose time is not before it) and ``newest``; else from
    the beginning. ``partition`` None: all of them.
    """

    topic: str
    partition: int | None = None
    offset: int | None = None
    time_ms: int | None = None
    newest: bool = False
    text: str = ""
    limit: int = 50

    def __post_init__(self) -> None:
        """Check; raises ConfigurationError."""
        if not 1 <= self.limit <= LIMIT:
            raise ConfigurationError(f"limit={self.limit}: 1 to {LIMIT} records are shown at once")
        named = (self.offset is not None) + (self.time_ms is not None) + self.newest
        if named > 1:
            raise ConfigurationError("of offset, time_ms and newest one is to be named")
        if self.offset is not None and self.partition is None:
            raise ConfigurationError(f"offset={self.offset}: name the partition that it is of")


def browse(
    bootstrap: str, wanted: Wanted, partitions: int, retried: Mapping[int, int] | None = None
) -> Records:
    """Return what is wanted of a topic of so many partitions; ``retried``: how often a dead letter
    of an offset was sent back.

    Raises:
        ConfigurationError: there is no such partition.
        BrokerError: the broker does not tell.
    """
    if wanted.partition is not None and not 0 <= wanted.partition < partitions:
        raise ConfigurationError(
            f"partition {wanted.partition}: {wanted.topic} has 0 to {partitions - 1}"
        )
    those = range(partitions) if wanted.partition is None else [wanted.partition]
    client = consumer(bootstrap, socket_timeout_ms=5_000)
    try:
        spans = {p: _span(client, wanted, p, len(those)) for p in those}
        reading = _Reading(wanted, retried)
        for partition, (begin, end) in spans.items():
            reading.read(client, partition, begin, end, SCANNED // len(those))
        return reading.result()
    except KafkaException as error:
        raise BrokerError(f"records of {wanted.topic} can't be read: {error}") from error
    finally:
        client.close()


def shown(value: bytes | None) -> tuple[Format, Any, bool]:
    """Return (format, what is shown, whether it was cut) of a record's value.

    >>> shown(b'{"a": 1}'), shown(b"plain"), shown(None)
    (('json', {'a': 1}, False), ('text', 'plain', False), ('empty', None, False))
    """
    if value is None:
        return "empty", None, False
    is_cut, head = len(value) > SHOWN_BYTES, value[:SHOWN_BYTES]
    if not is_cut:
        try:
            content = msgspec.json.decode(value)
            if not _is_deeper(content, DEEPEST):
                return "json", content, False
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    try:
        # Of what was cut the last character may be half there; whatever else is wrong is no text.
        text = getincrementaldecoder("utf-8")().decode(head, not is_cut)
        if all(c.isprintable() or c in "\n\r\t" for c in text[:1_000]):
            return "text", text, is_cut
    except UnicodeDecodeError:
        pass
    return "binary", base64.b64encode(head).decode(), is_cut


def _is_deeper(content: Any, most: int) -> bool:
    """Return whether a value is nested so deep that an encoder would give up on it."""
    inner = content.values() if isinstance(content, dict) else content
    if not isinstance(content, dict | list):
        return False
    return most == 0 or any(_is_deeper(each, most - 1) for each in inner)


def _span(client: Consumer, wanted: Wanted, partition: int, among: int) -> tuple[int, int]:
    begin, end = watermarks(client, wanted.topic, partition)
    if wanted.offset is not None:
        return min(max(begin, wanted.offset), end), end
    if wanted.time_ms is not None:
        asked = [TopicPartition(wanted.topic, partition, wanted.time_ms)]
        found = client.offsets_for_times(asked, timeout=10)[0].offset
        return (found if found >= 0 else end), end
    if wanted.newest:
        # A transaction leaves a marker behind that no reader sees: so a few more than wanted.
        back = SCANNED // among if wanted.text else 2 * wanted.limit + 20
        return max(begin, end - back), end
    return begin, end


class _Reading:
    """What is found, partition by partition."""

    def __init__(self, wanted: Wanted, retried: Mapping[int, int] | None) -> None:
        self._wanted, self._retried = wanted, retried
        self._text = wanted.text.lower().encode()
        self._deadline_s = time.monotonic() + LONGEST_S
        self._found: list[Record] = []
        self._next: dict[int, int] = {}
        self._scanned, self._complete = 0, True

    def read(self, client: Consumer, partition: int, begin: int, end: int, most: int) -> None:
        """Read a partition from ``begin`` on, until enough is found."""
        wanted, found, scanned, position = self._wanted, 0, 0, begin
        if begin < end:
            client.assign([TopicPartition(wanted.topic, partition, begin)])
        while position < end:
            if scanned >= most or time.monotonic() > self._deadline_s:
                self._complete = False
                break
            if found >= wanted.limit and not wanted.newest:
                break
            for message in client.consume(SLICE, 0.2):
                at, error = message.offset(), message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                if at is None or at < position:
                    continue
                if error is not None:
                    position = max(at, end)
                    break
                if at >= end or (found >= wanted.limit and not wanted.newest):
                    position = at
                    break
                position, scanned = at + 1, scanned + 1
                if self._holds(message):
                    found += 1
                    self._found.append(_record(message, self._retried))
            else:
                continue
            break
        self._next[partition] = position
        self._scanned += scanned

    def result(self) -> Records:
        """Return the records, by time; of the newest the latest first."""
        newest, limit = self._wanted.newest, self._wanted.limit
        order = sorted(
            self._found, key=lambda r: (r.timestamp_ms, r.partition, r.offset), reverse=newest
        )
        if self._wanted.partition is not None:
            order = sorted(self._found, key=lambda r: r.offset, reverse=newest)
        for left in reversed(order[limit:]):
            if not newest:  # reading on begins with what was not shown
                self._next[left.partition] = min(self._next[left.partition], left.offset)
        return Records(
            self._wanted.topic, order[:limit], self._scanned, self._complete,
            {str(p): at for p, at in sorted(self._next.items())},
        )  # fmt: skip

    def _holds(self, message: Message[bytes, bytes]) -> bool:
        if not self._text:
            return True
        parts = [message.key() or b"", message.value() or b""]
        for name, value in headers_of(message).items():
            parts += [name.encode(), value]
        return any(self._text in part.lower() for part in parts)


def _record(message: Message[bytes, bytes], retried: Mapping[int, int] | None) -> Record:
    key, value, at = message.key(), message.value(), message.offset() or 0
    form, content, is_cut = shown(value)
    first = list(headers_of(message).items())[:SHOWN_HEADERS]
    headers = {name[:SHOWN_TEXT]: _text(value) for name, value in first}
    return Record(
        message.partition() or 0, at, message.timestamp()[1],
        None if key is None else _text(key), headers, form, content, len(value or b""), is_cut,
        None if retried is None else retried.get(at, 0),
    )  # fmt: skip


def _text(value: bytes) -> str:
    return value[:SHOWN_TEXT].decode("utf-8", "backslashreplace")
