"""Topics and their records."""

from typing import Any, Literal

import msgspec

from serving.dashboard.documents.document import Document


class Partition(msgspec.Struct, frozen=True):
    """Offsets of a partition: ``begin`` is the first that is kept, ``end`` the next to come."""

    partition: int
    begin: int
    end: int


class TopicFigures(msgspec.Struct, frozen=True):
    """A topic. ``records`` is the sum of end less begin: an upper bound where a topic is compacted
    or transactional. ``size_bytes`` is None where the broker does not tell."""

    topic: str
    kind: Literal["source", "features", "answers", "control", "figures", "dead_letters", "other"]
    present: bool
    records: int
    rate: float | None
    size_bytes: int | None
    partitions: list[Partition]


class TopicList(Document, frozen=True, kw_only=True):
    """All topics of the pipeline, in the order of the data."""

    topics: list[TopicFigures]


class Record(msgspec.Struct, frozen=True):
    """A record. ``value`` is its JSON where ``format`` is ``json``, text where ``text``, base64
    where ``binary``, and None where the record has no value (``empty``) or is longer than is shown
    (``cut`` is then true and ``value`` the beginning as text or base64). ``size_bytes`` is that of
    the value. ``retried`` (dead letters): how often it was sent back by now."""

    partition: int
    offset: int
    timestamp_ms: int
    key: str | None
    headers: dict[str, str]
    format: Literal["json", "text", "binary", "empty"]
    value: Any
    size_bytes: int
    cut: bool
    retried: int | None = None


class Records(msgspec.Struct, frozen=True):
    """``GET /api/records?topic=&partition=&offset=|time_ms=|&newest=true&filter=&limit=``.

    ``partition`` is optional with ``time_ms`` or ``newest``. ``limit`` is 1 to 200 [50]. ``filter``
    is a text that the key, a header or the value's bytes must hold (case matters not). A filter
    looks at ``scanned`` records at most (50,000): ``complete`` is false where it stopped before the
    end. ``next`` maps a partition (as text) to the offset from which to go on.
    """

    topic: str
    records: list[Record]
    scanned: int
    complete: bool
    next: dict[str, int]
