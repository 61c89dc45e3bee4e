"""Reading ``P.health.v1``: the processes' newest vitals, and what hops of several add up to."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from serving.health.probing import STOPPED
from serving.monitoring.log_reader import LogReader
from streams.replay import offset_bounds, offsets_at
from streams.wire import HOP_EDGES_MS, Hop, Vitals

KEPT_MS = 600_000
# Reading by assign joins no group; the name only shows in the broker's metrics.
GROUP = "kappa-health"

_decode = msgspec.json.Decoder(Vitals).decode

HopKey = tuple[str, str]
"""Role and hop."""


class VitalsFollower:
    """Follows the health topic, from what was written since ``since_ms`` (wall clock) on.

    ``latest`` has each worker's newest report, however old.

    Args:
        bootstrap: the brokers.
        topic: the health topic.
        since_ms: from when on; None for what comes from now on.
        kept_ms: for how long, by their own clock, reports are kept for :meth:`recent`.

    Raises:
        BrokerError: the broker can't be reached.
    """

    def __init__(
        self, bootstrap: str, topic: str, since_ms: int | None = None, kept_ms: int = KEPT_MS
    ) -> None:
        if since_ms is None:
            start = {p: end for p, (_, end) in offset_bounds(bootstrap, topic, 1).items()}
        else:
            start = offsets_at(bootstrap, topic, 1, since_ms)
        self.latest: dict[str, Vitals] = {}
        self._kept: list[Vitals] = []
        self._kept_ms = kept_ms
        self._end = {p: end for p, (_, end) in offset_bounds(bootstrap, topic, 1).items()}
        self._reader = LogReader(bootstrap, topic, GROUP, 1, start)

    def poll(self, timeout_s: float = 0.0) -> list[Vitals]:
        """Return the reports that came; waits up to ``timeout_s`` where there is none."""
        came = [
            vitals
            for batch in self._reader.poll(timeout_s)
            for value in batch.values
            if (vitals := decoded(value)) is not None
        ]
        for vitals in came:
            self.latest[vitals.worker] = vitals
        if came:
            newest_ms = max(vitals.at_ms for vitals in came)
            self._kept = [v for v in self._kept if v.at_ms > newest_ms - self._kept_ms] + came
        return came

    def catch_up(self, tries: int = 100) -> list[Vitals]:
        """Return what stood in the topic when this was made; gives up after ``tries`` tenths of a
        second."""
        came: list[Vitals] = []
        for _ in range(tries):
            if all(self._reader.positions[p] >= end for p, end in self._end.items()):
                break
            came += self.poll(0.1)
        return came

    def recent(self, since_ms: int) -> list[Vitals]:
        """Return the reports made since then, of those that are kept."""
        return [vitals for vitals in self._kept if vitals.at_ms >= since_ms]

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()


def decoded(value: bytes | None) -> Vitals | None:
    """Return a record's vitals; None for what is none, which must not blind the reader."""
    if value is None:
        return None
    try:
        return _decode(value)
    except msgspec.MsgspecError:
        return None


def has_stopped(vitals: Vitals) -> bool:
    """Return whether it is the last word of a process that ended in order."""
    return bool(vitals.figures.get(STOPPED))


def hops_of(reports: Iterable[Vitals]) -> dict[HopKey, Hop]:
    """Return (role, hop) → what passed, all reports together."""
    found: dict[HopKey, Hop] = {}
    for vitals in reports:
        for hop in vitals.hops:
            key = vitals.role, hop.name
            before = found.get(key)
            found[key] = hop if before is None else added(before, hop)
    return found


def added(one: Hop, other: Hop) -> Hop:
    """Return two hops of the same name as one."""
    pairs = itertools.zip_longest(one.counts, other.counts, fillvalue=0)
    return Hop(one.name, one.records + other.records, tuple(a + b for a, b in pairs))


def quantile_ms(counts: Sequence[int], q: float) -> float | None:
    """Return the ``q``-quantile of a hop's histogram, milliseconds; None without records.

    Within a bin records are taken to be spread evenly (as Prometheus' ``histogram_quantile`` does);
    what lies beyond the last edge is told as that edge.

    >>> quantile_ms((0, 0, 10), 0.5)  # all between 2 and 5 ms
    3.5
    """
    total = sum(counts)
    if not total:
        return None
    wanted, below = q * total, 0
    for i, n in enumerate(counts):
        if n and below + n >= wanted:
            if i >= len(HOP_EDGES_MS):
                break
            low = HOP_EDGES_MS[i - 1] if i else 0
            return low + (HOP_EDGES_MS[i] - low) * (wanted - below) / n
        below += n
    return float(HOP_EDGES_MS[-1])


def rates_of(reports: Sequence[Vitals]) -> dict[HopKey, float]:
    """Return (role, hop) → records per second over the time that the reports cover.

    A worker's first report here tells from when on its others count.
    """
    found: dict[HopKey, float] = {}
    by_process: dict[tuple[str, int], list[Vitals]] = {}
    for vitals in reports:
        by_process.setdefault((vitals.worker, vitals.pid), []).append(vitals)
    for of_one in by_process.values():
        seconds = (of_one[-1].at_ms - of_one[0].at_ms) / 1000
        if seconds <= 0:
            continue
        for key, hop in hops_of(of_one[1:]).items():
            found[key] = found.get(key, 0.0) + hop.records / seconds
    return found


def figures_under(figures: Mapping[str, float], prefix: str) -> dict[str, float]:
    """Return the figures whose name begins with ``prefix/``, without it.

    >>> figures_under({"broker/brokers": 3.0, "restarts/a": 1.0}, "broker")
    {'brokers': 3.0}
    """
    start = f"{prefix}/"
    return {name[len(start) :]: v for name, v in figures.items() if name.startswith(start)}
