"""The overview: topics and processes with what flows through them."""

from typing import Literal

import msgspec

from serving.dashboard.documents.document import Document
from streams.wire import Alert


class Node(msgspec.Struct, frozen=True):
    """A topic or a process of the flow picture.

    ``id`` is ``"topic:<name>"`` or ``"role:<name>"``; ``label`` is short, for the box. ``column``
    and ``row`` place it on a grid, left to right as the data flow. ``state`` of a process:
    ``running`` (told of itself of late), ``silent`` (told before, not now), ``unknown`` (never
    told); of a topic ``present`` or ``missing``. ``records`` are those of a topic that are kept,
    ``rate`` records/s appended to it, or processed by the process. ``lag`` are records that a
    process has not committed yet.
    """

    id: str
    kind: Literal["topic", "process"]
    label: str
    column: int
    row: int
    state: Literal["running", "silent", "unknown", "present", "missing"]
    records: int | None = None
    rate: float | None = None
    lag: int | None = None


class Edge(msgspec.Struct, frozen=True):
    """Data flow from a node to another (ids). ``rate`` is records/s along it, ``lag`` the records
    that the reading process is behind in this topic (None on edges that write)."""

    source: str
    target: str
    rate: float | None = None
    lag: int | None = None


class Count(msgspec.Struct, frozen=True):
    """A number for the head of the page: ``total`` records, and records/s now."""

    total: int
    rate: float | None = None


class Overview(Document, frozen=True, kw_only=True):
    """The head of the page and the flow picture.

    ``broker`` says whether the broker answers; ``broker_since_ms`` since when that is so (clock on
    the wall). ``newest_event_ms`` is the newest event time that any closed window or prediction
    shows. ``definition`` is the version of the features that answers, ``live`` the model's.
    ``standing`` are the alerts that are suspected or confirmed and not resolved, newest first.
    ``actions`` are those that are allowed here (empty where the page may only read).
    ``now_ms`` is the server's clock on the wall as the document was made.
    """

    pipeline: str
    timezone: str
    now_ms: int
    broker: Literal["up", "away"]
    broker_since_ms: int
    definition: int
    live: int
    live_since_ms: int | None
    newest_event_ms: int | None
    events: Count
    predictions: Count
    labels: Count
    dead_letters: Count
    standing: list[Alert]
    nodes: list[Node]
    edges: list[Edge]
    actions: list[str]
