"""Rules about processes: silent ones, those that keep dying, growing memory, full disks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from serving.health.observation import MINUTE_MS, Condition, Limits, Observation
from serving.health.reading import has_stopped
from streams.wire import Vitals

OWN_ROLE = "health"
GIB, MIB = 1 << 30, 1 << 20


@dataclass
class Heard:
    """A worker: its last report, when it was heard, when it was started again, its memory."""

    vitals: Vitals
    at_ms: int
    starts: deque[int] = field(default_factory=deque)
    memory: deque[tuple[int, int]] = field(default_factory=deque)

    def take(self, vitals: Vitals, at_ms: int, keep_ms: int) -> None:
        """Take its next report, heard at ``at_ms``.

        One of a process that began before the one that is known is old: it comes again where the
        topic is read again, as it is from its beginning when brokers have lost its end.
        """
        if vitals.began_ms < self.vitals.began_ms:
            return
        is_new = (vitals.began_ms, vitals.pid) != (self.vitals.began_ms, self.vitals.pid)
        if is_new:
            self.memory.clear()
            if not has_stopped(self.vitals):
                self.starts.append(at_ms)
        self.vitals, self.at_ms = vitals, max(self.at_ms, at_ms)
        if not self.memory or at_ms - self.memory[-1][0] >= MINUTE_MS:
            self.memory.append((at_ms, vitals.memory_bytes))
        while self.memory and self.memory[0][0] < at_ms - keep_ms:
            self.memory.popleft()


class Processes:
    """What is known of the pipeline's processes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.heard: dict[str, Heard] = {}
        self._deaf_until_ms = 0

    @property
    def roles(self) -> set[str]:
        """The roles of processes that should run."""
        return {h.vitals.role for h in self.heard.values() if not has_stopped(h.vitals)}

    def take(self, seen: Observation) -> None:
        """Take the reports that came."""
        if not seen.broker.answers:
            self._deaf_until_ms = seen.at_ms
        for vitals in seen.vitals:
            # Its own clock may be wrong, so what comes now counts as heard now; of reports that
            # are read at the start that clock is all there is.
            late = seen.at_ms - vitals.at_ms > self._limits.silent
            at_ms = vitals.at_ms if late else seen.at_ms
            known = self.heard.get(vitals.worker)
            if known is None:
                known = self.heard[vitals.worker] = Heard(vitals, at_ms)
            known.take(vitals, at_ms, self._limits.memory_within)
        gone_ms = seen.at_ms - self._limits.forgotten
        self.heard = {w: h for w, h in self.heard.items() if h.at_ms > gone_ms}

    def conditions(self, seen: Observation) -> Iterator[Condition]:
        """Yield what is wrong with them."""
        for worker, heard in sorted(self.heard.items()):
            if not has_stopped(heard.vitals):
                yield from self._silent(worker, heard, seen.at_ms)
                yield from self._growing(worker, heard, seen.at_ms)
            yield from self._restarting(worker, heard, seen.at_ms)
        yield from self._full_disks(seen.at_ms)

    def _silent(self, worker: str, heard: Heard, at_ms: int) -> Iterator[Condition]:
        since_ms = max(heard.at_ms, self._deaf_until_ms)
        if heard.vitals.role == OWN_ROLE or at_ms - since_ms < self._limits.silent:
            return
        vitals, silent_s = heard.vitals, (at_ms - since_ms) / 1000
        yield Condition(
            "silent", worker, since_ms, self._limits.silent_surely, silent_s,
            self._limits.silent / 1000,
            f"{worker} (role {vitals.role}, pid {vitals.pid} on {vitals.host or 'its host'}) has "
            f"reported nothing for {silent_s:.0f} s: see whether the process lives, and the end of "
            f"its log; `kappa worker {vitals.role}` starts it",
            "critical",
        )  # fmt: skip

    def _restarting(self, worker: str, heard: Heard, at_ms: int) -> Iterator[Condition]:
        limits = self._limits
        while heard.starts and heard.starts[0] < at_ms - limits.restarts_within:
            heard.starts.popleft()
        n = len(heard.starts)
        if n < limits.restarts:
            return
        yield Condition(
            "restarts", worker, heard.starts[0], 0, n, limits.restarts,
            f"{worker} was started again {n} times within "
            f"{limits.restarts_within // MINUTE_MS} minutes: the end of its log says why it dies",
            "critical", n,
        )  # fmt: skip

    def _growing(self, worker: str, heard: Heard, at_ms: int) -> Iterator[Condition]:
        limits = self._limits
        from_ms = heard.vitals.began_ms + limits.memory_from
        known = [(at, size) for at, size in heard.memory if at >= from_ms]
        if len(known) < 6 or at_ms - known[0][0] < 0.8 * limits.memory_within:
            return
        third = len(known) // 3
        sizes = [size for _, size in known]
        first, middle, last = sizes[:third], sizes[third : 2 * third], sizes[2 * third :]
        grown = min(last) - max(first)
        steadily = max(first) <= min(middle) and max(middle) <= min(last)
        least = limits.memory_bytes
        if not steadily or grown < least:
            return
        yield Condition(
            "memory", worker, known[0][0], 2 * limits.memory_within, sizes[-1], max(first) + least,
            f"the memory of {worker} grows steadily: {sizes[0] / MIB:,.0f} MB to "
            f"{sizes[-1] / MIB:,.0f} MB in {(at_ms - known[0][0]) / MINUTE_MS:.0f} minutes. A "
            "state that fills up does so too, and ends; else it will be killed when the memory is "
            "out: see `kappa plan` for what it should need",
        )  # fmt: skip

    def _full_disks(self, at_ms: int) -> Iterator[Condition]:
        by_host: dict[str, int] = {}
        for heard in self.heard.values():
            free = heard.vitals.disk_free_bytes
            if free is not None and at_ms - heard.at_ms < self._limits.silent_surely:
                host = heard.vitals.host
                by_host[host] = min(free, by_host.get(host, free))
        for host, free in sorted(by_host.items()):
            if free < self._limits.disk_bytes:
                yield disk_condition(f"the disk with the state on {host}", host, at_ms, free,
                                     self._limits.disk_bytes)  # fmt: skip


def disk_condition(what: str, about: str, at_ms: int, free: float, least: float) -> Condition:
    """Return what is said of a disk with ``free`` bytes left, fewer than ``least``."""
    return Condition(
        "disk", about, at_ms, MINUTE_MS, free, least,
        f"{what} has {free / GIB:.2f} GB left, less than {least / GIB:.2f}: make room (`kappa gc` "
        "removes what nobody needs), or state and log can't be written",
        "critical" if free < least / 10 else "warning",
    )  # fmt: skip
