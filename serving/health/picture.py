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
class HostPicture:
    """A machine: free bytes of the disk with the state, bytes per second over the network within
    the last minute, and its GPUs; None where it is not known, or there are none."""

    host: str
    disk_free_bytes: int | None
    network_in_per_s: float | None
    network_out_per_s: float | None
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
    hosts: tuple[HostPicture, ...]
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
    return Picture(at_ms, tuple(processes), hosts_of(recent), lag, hops, broker)


def hosts_of(recent: Sequence[Vitals]) -> tuple[HostPicture, ...]:
    """Return the machines by the reports of their processes, each of which tells of the machine."""
    by_host: dict[str, list[Vitals]] = {}
    for vitals in sorted(recent, key=lambda each: each.at_ms):
        by_host.setdefault(vitals.host, []).append(vitals)
    return tuple(_host_of(host, reports) for host, reports in sorted(by_host.items()))


def _host_of(host: str, reports: Sequence[Vitals]) -> HostPicture:
    last = reports[-1]
    received = _per_second([(v.at_ms, v.network_in_bytes) for v in reports])
    sent = _per_second([(v.at_ms, v.network_out_bytes) for v in reports])
    return HostPicture(
        host, last.disk_free_bytes, received, sent, last.gpu_busy, last.gpu_memory_bytes
    )


def _per_second(counts: Sequence[tuple[int, int | None]]) -> float | None:
    """Return how fast a counter grew from the first to the last time that it was told."""
    told = [(at_ms, n) for at_ms, n in counts if n is not None]
    if len(told) < 2 or told[-1][0] <= told[0][0]:
        return None
    (first_ms, first), (last_ms, last) = told[0], told[-1]
    return max(0, last - first) / ((last_ms - first_ms) / 1000)


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
