"""From what is seen to health alerts: pure, but for what it remembers of the moments before.

What is wrong is suspected at once and confirmed when it has lasted; when it is gone for
:data:`CALM_MS` it is resolved. Each state is told once. An alert's key follows from its cause and
its beginning, and what stands is read back from the alerts topic (:meth:`Health.restore`), so a
process that is started again tells nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from serving.health.log_rules import Brokers, DeadLetters, Stalls
from serving.health.observation import Condition, Limits, Observation
from serving.health.process_rules import Processes
from streams.topics import Topics
from streams.wire import Alert, AlertState, Severity, Window

CALM_MS = 30_000
WHILE_AWAY = "broker_answers"
"""The one metric that is known while the brokers do not answer."""
ACTION = "none: a person has to look"
_ORDER: dict[str, int] = {"info": 0, "warning": 1, "critical": 2}


@dataclass
class Stands:
    """An alert that stands: since when, as what, and when its condition was last seen."""

    key: str
    since_ms: int
    state: AlertState
    severity: Severity
    seen_ms: int
    last: Condition | Alert


class Health:
    """Judges the pipeline's health; ``standing`` is name (:attr:`Condition.name`) → alert."""

    def __init__(self, topics: Topics, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        self._limits = limits
        self.standing: dict[str, Stands] = {}
        self.processes = Processes(limits)
        self._stalls = Stalls(limits, topics)
        self._dead = DeadLetters(limits, topics)
        self._brokers = Brokers(limits)

    def restore(self, alerts: Iterable[Alert], at_ms: int) -> None:
        """Take over what the alerts topic says; ``alerts`` in its order.

        What takes a while to be seen is not over because it is not seen at once.
        """
        limits = self._limits
        needs_ms = {
            "lag": limits.stalled, "dead_letters": limits.dead_within // 4,
            "restarts": limits.restarts_within, "memory": limits.memory_within,
        }  # fmt: skip
        for alert in alerts:
            if alert.kind != "health":
                continue
            name = name_of(alert.key)
            if alert.state == "resolved":
                self.standing.pop(name, None)
            else:
                seen_ms = at_ms + needs_ms.get(alert.metric, 0)
                self.standing[name] = Stands(
                    alert.key, alert.window.start_ms, alert.state, alert.severity, seen_ms, alert
                )

    def judge(self, seen: Observation) -> list[Alert]:
        """Return the alerts that a moment gives, in the order of their names."""
        self.processes.take(seen)
        found = list(self._brokers.conditions(seen))
        if seen.broker.answers:
            self._stalls.take(seen)
            self._dead.take(seen)
            found += self.processes.conditions(seen)
            found += self._stalls.conditions(seen, self.processes.roles)
            found += self._dead.conditions()
        alerts = [
            alert
            for condition in sorted(found, key=lambda each: each.name)
            for alert in self._take(condition, seen.at_ms)
        ]
        return alerts + self._resolve({each.name for each in found}, seen)

    def _take(self, now: Condition, at_ms: int) -> list[Alert]:
        stands = self.standing.get(now.name)
        if stands is None:
            key = f"{now.name}@{now.since_ms}"
            stands = Stands(key, now.since_ms, "suspected", "info", at_ms, now)
            self.standing[now.name] = stands
            is_told = False
        else:
            is_told = True
        stands.seen_ms, stands.last = at_ms, now
        if at_ms - stands.since_ms >= now.confirm_ms:
            worse = _ORDER[now.severity] > _ORDER[stands.severity]
            if stands.state == "suspected" or worse:
                stands.state, stands.severity = "confirmed", now.severity
                return [alert_of(now, stands, at_ms)]
        return [] if is_told else [alert_of(now, stands, at_ms)]

    def _resolve(self, wrong: set[str], seen: Observation) -> list[Alert]:
        alerts = []
        for name in sorted(self.standing.keys() - wrong):
            stands = self.standing[name]
            if not seen.broker.answers and metric_of(name) != WHILE_AWAY:
                stands.seen_ms = seen.at_ms  # nobody knows
            elif seen.at_ms - stands.seen_ms >= CALM_MS:
                del self.standing[name]
                alerts.append(resolved(stands, seen.at_ms))
        return alerts


def alert_of(now: Condition, stands: Stands, at_ms: int) -> Alert:
    """Return the record of a condition that enters a state."""
    return Alert(
        alert_id=f"{stands.key}/{stands.state}/{stands.severity}",
        kind="health",
        metric=now.metric,
        feature=now.about,
        value=float(now.value),
        threshold=float(now.threshold),
        n=now.n,
        window=Window(stands.since_ms, at_ms),
        model_version=0,
        cause=now.cause,
        offsets={},
        action=ACTION,
        key=stands.key,
        state=stands.state,
        severity=stands.severity,
    )


def resolved(stands: Stands, at_ms: int) -> Alert:
    """Return the record of an alert that is over."""
    last, lasted_s = stands.last, (stands.seen_ms - stands.since_ms) / 1000
    metric, about = (
        (last.metric, last.about) if isinstance(last, Condition) else (last.metric, last.feature)
    )
    return Alert(
        alert_id=f"{stands.key}/resolved",
        kind="health",
        metric=metric,
        feature=about,
        value=float(last.value),
        threshold=float(last.threshold),
        n=last.n,
        window=Window(stands.since_ms, at_ms),
        model_version=0,
        cause=f"over after {lasted_s:,.0f} s; it was: {last.cause}",
        offsets={},
        action="none: it is over",
        key=stands.key,
        state="resolved",
        severity=stands.severity,
    )


def name_of(key: str) -> str:
    """Return the name of the condition of an alert's key.

    >>> name_of("health/silent/monitor-host@1700000000000")
    'health/silent/monitor-host'
    """
    return key.rpartition("@")[0]


def metric_of(name: str) -> str:
    """Return the metric in a condition's name."""
    return name.split("/", 2)[1]
