"""Rules about the log: groups that stand still, dead letters, brokers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from serving.health.lag import Standing
from serving.health.observation import MINUTE_MS, Condition, Limits, Observation
from serving.health.process_rules import disk_condition
from streams.topics import Topics

Place = tuple[str, str, int]


@dataclass(frozen=True)
class _Mark:
    """Where a group stood when it last moved."""

    committed: int
    lag: int
    at_ms: int


class Stalls:
    """Groups that stand still while their lag grows.

    Commands are left out: the trainer holds one for as long as a training takes.
    """

    def __init__(self, limits: Limits, topics: Topics) -> None:
        self._limits, self._topics = limits, topics
        self._marks: dict[Place, _Mark] = {}

    def take(self, seen: Observation) -> None:
        """Note where groups moved."""
        for place, standing in _places(seen):
            mark = self._marks.get(place)
            committed, lag = standing.committed or 0, standing.lag
            if mark is None or committed != mark.committed or lag <= 0 or lag < mark.lag:
                self._marks[place] = _Mark(committed, lag, seen.at_ms)

    def conditions(self, seen: Observation, roles: Iterable[str]) -> Iterator[Condition]:
        """Yield the groups of ``roles`` that stand still; one for all partitions of a topic."""
        known, stuck = set(roles), dict[tuple[str, str], list[tuple[int, int, _Mark]]]()
        for (role, topic, partition), standing in _places(seen):
            mark = self._marks[role, topic, partition]
            grows = standing.lag > mark.lag
            still_ms = seen.at_ms - mark.at_ms
            if role in known and topic != self._topics.commands and grows:
                if still_ms < self._limits.stalled:
                    continue
                stuck.setdefault((role, topic), []).append((partition, standing.lag, mark))
        for (role, topic), places in sorted(stuck.items()):
            lag = max(lag for _, lag, _ in places)
            since_ms = min(mark.at_ms for *_, mark in places)
            told = ", ".join(f"{p} ({n:,} behind)" for p, n, _ in places)
            yield Condition(
                "lag", f"{role}/{topic}", since_ms, self._limits.stalled_surely, lag,
                min(mark.lag for *_, mark in places),
                f"{role} has not gone on in {topic} for "
                f"{(seen.at_ms - since_ms) / MINUTE_MS:.1f} minutes, while more comes: partition "
                f"{told}. See whether the process runs, and the end of its log; a record that it "
                "can't get past would stop it at the same offset again",
                "critical", len(places),
            )  # fmt: skip


class DeadLetters:
    """The share of the records read that ended as dead letters, over the last minutes."""

    def __init__(self, limits: Limits, topics: Topics) -> None:
        self._limits = limits
        self._readers = {topics.events: "features", topics.labels: "monitor"}
        self._past: dict[str, deque[tuple[int, int, int]]] = {}

    def take(self, seen: Observation) -> None:
        """Note how many there are."""
        for topic, dead in (seen.dead or {}).items():
            read = self._read(seen, topic)
            if read is None:
                continue
            past = self._past.setdefault(topic, deque())
            past.append((seen.at_ms, dead, read))
            while past[0][0] < seen.at_ms - self._limits.dead_within:
                past.popleft()

    def conditions(self) -> Iterator[Condition]:
        """Yield the topics with too many."""
        for topic, past in sorted(self._past.items()):
            (begun_ms, dead_then, read_then), (_, dead, read) = past[0], past[-1]
            new, passed = dead - dead_then, max(read - read_then, dead - dead_then)
            share = new / passed if passed else 0.0
            if new < self._limits.dead_least or share <= self._limits.dead_share:
                continue
            yield Condition(
                "dead_letters", topic, begun_ms, self._limits.lasting, share,
                self._limits.dead_share,
                f"{new:,} of the {passed:,} records read of {topic} within "
                f"{self._limits.dead_within // MINUTE_MS} minutes could not be used ({share:.1%}): "
                f"{topic}.dlq has each with its reason; often the type of the source has changed",
                "critical" if share > 10 * self._limits.dead_share else "warning", new,
            )  # fmt: skip

    def _read(self, seen: Observation, topic: str) -> int | None:
        reader = self._readers.get(topic)
        found = seen.standings.get(reader or "", {}).get(topic)
        if found is None:
            return None
        return sum(standing.committed or 0 for standing in found.values())


class Brokers:
    """Brokers that don't answer, or answer late, or miss replicas, leaders or room."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._since: dict[str, int] = {}

    def conditions(self, seen: Observation) -> Iterator[Condition]:
        """Yield what is wrong with them."""
        limits, broker = self._limits, seen.broker
        if self._lasts("away", not broker.answers, seen.at_ms):
            away_s = (seen.at_ms - self._since["away"]) / 1000
            yield self._said(
                "broker_answers", "away", limits.away_surely, away_s, limits.away_surely / 1000,
                "the brokers did not answer: nothing is read or written meanwhile, and all goes on "
                "where it was once they do; see whether Kafka runs, and its log", "critical",
            )  # fmt: skip
        if not broker.answers:
            return
        slow_ms = broker.answer_ms or 0.0
        if self._lasts("slow", slow_ms > limits.slow, seen.at_ms):
            yield self._said(
                "broker_slow",
                "slow",
                limits.lasting,
                slow_ms,
                limits.slow,
                f"the brokers took {slow_ms:,.0f} ms for an answer: see their load and disk",
            )
        if self._lasts("replicas", broker.under_replicated > 0, seen.at_ms):
            yield self._said(
                "under_replicated",
                "replicas",
                limits.lasting,
                broker.under_replicated,
                0,
                f"{broker.under_replicated} of {broker.partitions} partitions have a replica that "
                "is not in sync: see whether a broker is gone",
            )
        if self._lasts("leaders", broker.offline > 0, seen.at_ms):
            yield self._said(
                "offline", "leaders", limits.away_surely, broker.offline, 0,
                f"{broker.offline} of {broker.partitions} partitions have no leader, and can't be "
                "read or written: bring the brokers back that hold them", "critical",
            )  # fmt: skip
        if broker.free_bytes is not None and broker.total_bytes:
            least = limits.broker_disk_share * broker.total_bytes
            if broker.free_bytes < min(least, 5 * limits.disk_bytes):
                least = min(least, 5 * limits.disk_bytes)
                yield disk_condition(
                    "the brokers' fullest disk", "brokers", seen.at_ms, broker.free_bytes, least
                )

    def _said(
        self, metric: str, since: str, confirm_ms: int, value: float, threshold: float,
        cause: str, severity: str = "warning",
    ) -> Condition:  # fmt: skip
        return Condition(
            metric, "brokers", self._since[since], confirm_ms, value, threshold, cause,
            "critical" if severity == "critical" else "warning",
        )  # fmt: skip

    def _lasts(self, name: str, is_so: bool, at_ms: int) -> bool:
        if is_so:
            self._since.setdefault(name, at_ms)
        else:
            self._since.pop(name, None)
        return is_so


def _places(seen: Observation) -> Iterator[tuple[Place, Standing]]:
    for role, topics in seen.standings.items():
        for topic, partitions in topics.items():
            for partition, standing in partitions.items():
                yield (role, topic, partition), standing
