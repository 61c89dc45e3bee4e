"""Health: a fold over what the processes tell of themselves, and what the broker tells of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from serving.dashboard.documents.health import (
    Broker,
    Health,
    HopFigures,
    PartitionLag,
    Process,
    VitalsPoint,
)
from serving.dashboard.measuring import Measured
from streams.wire import HOP_EDGES_MS, Hop, Vitals

SILENT_AFTER_MS = 30_000
FORGOTTEN_AFTER_MS = 86_400_000
"""A process that has been silent for so long is not shown, where others are not."""

HISTORY, HOPS_WITHIN_MS = 120, 300_000
MOST = 300
STOPPED = "stopped"
"""The figure of a process's last report, where it ended in order."""


@dataclass
class _Worker:
    newest: Vitals
    history: deque[VitalsPoint] = field(default_factory=lambda: deque(maxlen=HISTORY))
    hops: deque[tuple[int, tuple[Hop, ...]]] = field(default_factory=deque)


class HealthBoard:
    """Processes by their lasting names."""

    def __init__(self) -> None:
        self.revision = 0
        self._workers: dict[str, _Worker] = {}
        self._newest_ms = 0

    def take(self, vitals: Vitals) -> None:
        """Add a report."""
        held = self._workers.get(vitals.worker)
        if held is None:
            held = self._workers[vitals.worker] = _Worker(vitals)
            if len(self._workers) > MOST:
                del self._workers[
                    min(self._workers, key=lambda name: self._workers[name].newest.at_ms)
                ]
        self.revision += 1
        held.newest = vitals
        held.history.append(VitalsPoint(vitals.at_ms, vitals.cpu, vitals.memory_bytes))
        if vitals.hops:
            held.hops.append((vitals.at_ms, vitals.hops))
        while held.hops and held.hops[0][0] < vitals.at_ms - HOPS_WITHIN_MS:
            held.hops.popleft()
        self._newest_ms = max(self._newest_ms, vitals.at_ms)

    def heard(self, now_ms: int) -> dict[str, bool]:
        """Return role → whether a process of it still tells of itself."""
        heard: dict[str, bool] = {}
        for worker in self._workers.values():
            role = worker.newest.role
            heard[role] = heard.get(role, False) or not _is_silent(worker.newest, now_ms)
        return heard

    def document(
        self,
        now_ms: int,
        revision: int,
        broker: Broker,
        measured: Measured | None,
        groups: Mapping[str, str],
    ) -> Health:
        """Return the section; ``groups`` maps a role to its consumer group."""
        shown = [
            worker
            for _, worker in sorted(self._workers.items())
            if worker.newest.at_ms > self._newest_ms - FORGOTTEN_AFTER_MS
        ]
        return Health(
            revision=revision,
            now_ms=now_ms,
            broker=broker,
            processes=[_process(worker, now_ms) for worker in shown],
            lag=[] if measured is None else _lags(measured, groups),
            edges_ms=list(HOP_EDGES_MS),
            hops=_hops(shown, now_ms),
        )


def quantile_ms(counts: list[int], share: float) -> float | None:
    """Return the upper end of the bin that holds a quantile; None beyond the last edge.

    >>> quantile_ms([0, 10, 0], 0.5)
    2.0
    """
    total, passed = sum(counts), 0
    for count, edge in zip(counts, HOP_EDGES_MS, strict=False):
        passed += count
        if total and passed >= share * total:
            return float(edge)
    return None


def _is_silent(vitals: Vitals, now_ms: int) -> bool:
    return now_ms - vitals.at_ms > SILENT_AFTER_MS or bool(vitals.figures.get(STOPPED))


def _process(worker: _Worker, now_ms: int) -> Process:
    v = worker.newest
    return Process(
        v.worker, v.role, v.host, v.pid, "silent" if _is_silent(v, now_ms) else "running",
        v.at_ms, v.began_ms, max(0, now_ms - v.at_ms) / 1000, v.cpu, v.memory_bytes,
        v.disk_free_bytes, v.network_in_bytes, v.network_out_bytes, v.gpu_busy,
        v.gpu_memory_bytes, v.figures, list(worker.history),
    )  # fmt: skip


def _lags(measured: Measured, groups: Mapping[str, str]) -> list[PartitionLag]:
    return [
        PartitionLag(
            role, topic, p, measured.committed[group][topic].get(p), at.end, at.lag
        )
        for role, group in groups.items()
        for topic in sorted(measured.committed.get(group, {}))
        for p, at in measured.standing(group, topic).items()
    ]  # fmt: skip


def _hops(workers: list[_Worker], now_ms: int) -> list[HopFigures]:
    """Return the hops of all workers together, by role and name."""
    found: dict[tuple[str, str], tuple[list[int], int, int]] = {}
    for worker in workers:
        for at_ms, hops in worker.hops:
            if at_ms < now_ms - HOPS_WITHIN_MS:
                continue
            for hop in hops:
                key = worker.newest.role, hop.name
                counts, records, since_ms = found.get(
                    key, ([0] * (len(HOP_EDGES_MS) + 1), 0, at_ms)
                )
                summed = [
                    a + b for a, b in zip(counts, (*hop.counts, *[0] * len(counts)), strict=False)
                ]
                found[key] = summed, records + hop.records, min(since_ms, at_ms)
    return [
        HopFigures(
            name, role, records,
            records * 1000 / (now_ms - since_ms) if now_ms > since_ms else None,
            counts, quantile_ms(counts, 0.5), quantile_ms(counts, 0.99),
        )
        for (role, name), (counts, records, since_ms) in sorted(found.items())
    ]  # fmt: skip
