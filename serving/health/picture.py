"""How a pipeline is, at one look: processes, lag, hops, brokers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from features.processing.stages import Stage
from serving.health.broker import BrokerProbe, BrokerState
from serving.health.lag import LagReader
from serving.health.observation import Limits, Standings
from serving.health.reading import (
    VitalsFollower,
    has_stopped,
    hops_of,
    quantile_ms,
    rates_of,
)
from streams.clock import Clock, SystemClock
from streams.topics import Topics
from streams.wire import Vitals

HOPS_OF_MS = 60_000
SINCE_MS = 600_000
"""Processes of which nothing was heard for so long are not shown."""

ProcessState = Literal["alive", "silent", "stopped"]


@dataclass(frozen=True)
class ProcessPicture:
    """A process: ``heard_s`` seconds ago it said how it is; sizes in bytes, ``cpu`` in cores."""

    worker: str
    role: str
    state: ProcessState
    heard_s: float
    up_s: float
    pid: int
    host: str
    cpu: float
    memory_bytes: int
    disk_free_bytes: int | None
    gpu_busy: float | None
    gpu_memory_bytes: int | None


@dataclass(frozen=True)
class LagPicture:
    """How many records of a topic a role has not committed, by partition."""

    role: str
    topic: str
    by_partition: dict[int, int]


@dataclass(frozen=True)
class HopPicture:
    """What passed a hop of a role within the last minute; None where nothing did."""

    role: str
    hop: str
    per_second: float
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class Picture:
    """All of it, at ``at_ms`` (wall clock)."""

    at_ms: int
    processes: tuple[ProcessPicture, ...]
    lag: tuple[LagPicture, ...]
    hops: tuple[HopPicture, ...]
    broker: BrokerState


def picture_of(
    at_ms: int,
    latest: Sequence[Vitals],
    recent: Sequence[Vitals],
    standings: Standings,
    broker: BrokerState,
) -> Picture:
    """Put a picture together.

    Args:
        at_ms: now, by the clock on the wall.
        latest: each process's newest report.
        recent: all reports of the last minute.
        standings: where the groups stand.
        broker: how the brokers are.
    """
    rates = rates_of(recent)
    hops = tuple(
        HopPicture(
            role, name, rates.get((role, name), 0.0),
            quantile_ms(hop.counts, 0.5), quantile_ms(hop.counts, 0.99),
        )
        for (role, name), hop in sorted(hops_of(recent).items())
    )  # fmt: skip
    lag = tuple(
        LagPicture(role, topic, {p: standing.lag for p, standing in partitions.items()})
        for role, topics in standings.items()
        for topic, partitions in topics.items()
    )
    processes = [process_of(at_ms, vitals) for vitals in latest]
    processes.sort(key=lambda each: (each.role, each.worker))
    return Picture(at_ms, tuple(processes), lag, hops, broker)


def process_of(at_ms: int, vitals: Vitals) -> ProcessPicture:
    """Return a process by its newest report."""
    silent_ms = at_ms - vitals.at_ms
    state: ProcessState = "silent" if silent_ms >= Limits.silent else "alive"
    return ProcessPicture(
        worker=vitals.worker,
        role=vitals.role,
        state="stopped" if has_stopped(vitals) else state,
        heard_s=max(0, silent_ms) / 1000,
        up_s=max(0, vitals.at_ms - vitals.began_ms) / 1000,
        pid=vitals.pid,
        host=vitals.host,
        cpu=vitals.cpu,
        memory_bytes=vitals.memory_bytes,
        disk_free_bytes=vitals.disk_free_bytes,
        gpu_busy=vitals.gpu_busy,
        gpu_memory_bytes=vitals.gpu_memory_bytes,
    )


class PictureReader:
    """Looks at a pipeline from outside; it needs no process of it but the brokers.

    Raises:
        BrokerError: the brokers can't be reached.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        partitions: int,
        stages: Mapping[str, Stage],
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._brokers = BrokerProbe(bootstrap)
        self._lags = LagReader(bootstrap, topics, partitions, stages=stages)
        since_ms = self._clock.now_ms() - SINCE_MS
        self._vitals = VitalsFollower(bootstrap, topics.health, since_ms)
        self._vitals.catch_up()

    def look(self) -> Picture:
        """Return how it is now."""
        self._vitals.poll()
        now_ms = self._clock.now_ms()
        latest = [v for v in self._vitals.latest.values() if v.at_ms > now_ms - SINCE_MS]
        recent = self._vitals.recent(now_ms - HOPS_OF_MS)
        return picture_of(now_ms, latest, recent, self._lags.by_partition(), self._brokers.look())

    def close(self) -> None:
        """Close the connections."""
        self._vitals.close()
        self._lags.close()
        self._brokers.close()
