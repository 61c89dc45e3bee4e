"""How processes, hops and brokers are."""

from typing import Literal

import msgspec

from serving.dashboard.documents.document import Document


class Process(msgspec.Struct, frozen=True):
    """The newest report of a process. ``cpu`` is the share of one core, ``history`` the last ones
    (ascending) for small charts. ``silent_s`` is how long it has not told of itself, seconds."""

    worker: str
    role: str
    host: str
    pid: int
    state: Literal["running", "silent"]
    at_ms: int
    began_ms: int
    silent_s: float
    cpu: float
    memory_bytes: int
    disk_free_bytes: int | None
    network_in_bytes: int | None
    network_out_bytes: int | None
    gpu_busy: float | None
    gpu_memory_bytes: int | None
    figures: dict[str, float]
    history: list["VitalsPoint"]


class VitalsPoint(msgspec.Struct, frozen=True):
    """CPU (share of a core) and memory of a process at a time."""

    at_ms: int
    cpu: float
    memory_bytes: int


class PartitionLag(msgspec.Struct, frozen=True):
    """How far a role is behind in one partition: records not committed yet; ``end`` is the topic's
    end, ``committed`` the next offset to read (None: nothing was committed)."""

    role: str
    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int


class HopFigures(msgspec.Struct, frozen=True):
    """Latency of one hop over the last minutes: ``counts[i]`` records took at most ``edges_ms[i]``
    (of :class:`Health`), the last count all longer. ``p50_ms``, ``p99_ms`` are upper ends of the
    bins that hold them, None where that is beyond the last edge or nothing passed. ``rate`` is
    records/s."""

    name: str
    role: str
    records: int
    rate: float | None
    counts: list[int]
    p50_ms: float | None
    p99_ms: float | None


class Broker(msgspec.Struct, frozen=True):
    """The broker: its address, whether it answers, since when, how long it took (milliseconds), and
    why not."""

    address: str
    state: Literal["up", "away"]
    since_ms: int
    answer_ms: float | None
    why: str | None


class Health(Document, frozen=True, kw_only=True):
    """Processes, lag, latency and the broker."""

    now_ms: int
    broker: Broker
    processes: list[Process]
    lag: list[PartitionLag]
    edges_ms: list[int]
    hops: list[HopFigures]
