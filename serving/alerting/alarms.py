"""From the figures of each closing to few alerts: the whole way in one place. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from serving.alerting.deciding import Judged, judge_together, level_per_closing
from serving.alerting.declared import Alerting
from serving.alerting.finding import Finding
from serving.alerting.grouping import Grouping, Told, rank
from serving.alerting.lifecycle import Lifecycle
from streams.wire import AlertKind

OF_ANSWERS: tuple[AlertKind, ...] = (
    "prediction_drift", "concept_drift", "performance", "fairness",
)  # fmt: skip
"""Kinds of alerts that the inputs may explain."""


@dataclass(frozen=True)
class Raised:
    """What a closing came to: all figures with their adjusted p-values, in order; what is told of
    alerts; the figures that stand confirmed and are out of bounds now, the worst first."""

    findings: list[Finding]
    told: list[Told]
    standing: list[Finding]


class Alarms:
    """Takes closings, one after the other, each ``step_ms`` after the one before.

    >>> from streams.wire import Metric, Window
    >>> def psi(end_ms):
    ...     metric = Metric("psi", "a", 0.5, 0.25, 900, Window(end_ms - 86_400_000, end_ms), 1)
    ...     return Finding("data_drift", metric, excess=2.0, chance=1e-9, cause="why")
    >>> alarms = Alarms(Alerting(), 86_400_000)
    >>> days = [alarms.close([psi(day * 86_400_000)], day * 86_400_000) for day in (1, 2, 3)]
    >>> [[told.state for told in day.told] for day in days]
    [['suspected'], ['confirmed'], []]
    """

    def __init__(self, alerting: Alerting, step_ms: int) -> None:
        self.level = level_per_closing(alerting.false_alarms_per_week, step_ms)
        self._figures = Lifecycle(alerting, step_ms)
        self._alerts = Grouping()

    def close(self, findings: Sequence[Finding], end_ms: int) -> Raised:
        """Judge all figures of the closing at ``end_ms``."""
        every = judge_together(findings, self.level)
        # A figure without bounds says nothing of one that has them, and may share its key.
        judged = [each for each in every if each.finding.excess is not None]
        changes = self._figures.update(judged, end_ms)
        told = self._alerts.update(changes, judged, self._figures, end_ms)
        harm, moved = _harm(judged), _moved(judged)
        told = [_explained(each, harm, moved) for each in told]
        standing = sorted(self._standing(judged), key=rank)
        return Raised([each.finding for each in every], told, standing)

    def to_json(self) -> Any:
        """Return the state as JSON types."""
        return [self._figures.to_json(), self._alerts.to_json()]

    def load(self, content: Any) -> None:
        """Take over what :meth:`to_json` returned."""
        figures, alerts = content
        self._figures.load(figures)
        self._alerts.load(alerts)

    def _standing(self, judged: Sequence[Judged]) -> Iterator[Finding]:
        for each in judged:
            if each.shows and self._figures.is_confirmed(each.finding.key):
                yield each.finding


def _explained(told: Told, harm: float | None, moved: tuple[Finding, ...]) -> Told:
    """Return an alert with what it may have cost, and one about answers with the inputs that are
    out of bounds at the same closing: likely they are why."""
    if told.impact is None:
        told = replace(told, impact=harm)
    if told.state == "confirmed" and told.lead.kind in OF_ANSWERS:
        told = replace(told, related=(*told.related, *moved))
    return told


def _moved(judged: Sequence[Judged]) -> tuple[Finding, ...]:
    """Return the inputs that are out of bounds, in rank."""
    showing = (each.finding for each in judged if each.shows)
    return tuple(sorted((f for f in showing if f.kind == "data_drift"), key=rank))


def _harm(judged: Sequence[Judged]) -> float | None:
    """Return by how much labels say the loss has grown: what a change of inputs may have cost."""
    known = [each.finding.impact for each in judged if each.finding.impact is not None]
    return max(known, default=None)
