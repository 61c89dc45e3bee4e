"""Alerts: a fold over their log, the newest state of each finding and how it came there."""

from __future__ import annotations

from dataclasses import dataclass, field

from serving.dashboard.documents.alerts import AlertEntry, Alerts, AlertStep
from serving.dashboard.documents.figures import Mark
from streams.wire import Alert

KEPT, STEPS, SHOWN = 1_000, 50, 300
"""Findings that are kept, states of each, and findings that are shown."""

MARKED = ("data_drift", "prediction_drift", "concept_drift", "performance", "fairness")


@dataclass
class _Finding:
    newest: Alert
    since_ms: int
    was: Alert | None = None
    steps: list[AlertStep] = field(default_factory=list)


class AlertList:
    """Findings by key."""

    def __init__(self) -> None:
        self.revision = 0
        self.total = 0
        self._findings: dict[str, _Finding] = {}

    def take(self, alert: Alert) -> None:
        """Add an alert; one that was written twice, after a crash, counts once."""
        key = key_of(alert)
        held = self._findings.pop(key, None)
        if held is not None and held.newest.alert_id == alert.alert_id:
            self._findings[key] = held
            return
        self.total += 1
        self.revision += 1
        at_ms = alert.window.end_ms
        if held is None:
            held = _Finding(alert, at_ms)
        elif not _stands(held.newest):
            held.since_ms, held.was = at_ms, None
        if alert.state == "confirmed":
            held.was = alert
        held.newest = alert
        held.steps.append(AlertStep(alert.state, at_ms, alert.value, alert.action))
        del held.steps[:-STEPS]
        self._findings[key] = held  # the newest last
        if len(self._findings) > KEPT:
            del self._findings[next(iter(self._findings))]

    def standing(self) -> list[Alert]:
        """Return the newest alert of each finding that is not resolved, newest first."""
        return [f.newest for f in reversed(self._findings.values()) if _stands(f.newest)]

    def whole(self) -> Alerts:
        """Return the alerts, the standing ones first."""
        found = [
            AlertEntry(
                key, held.newest, held.since_ms, list(held.steps),
                held.was if held.newest.state == "resolved" else None,
            )
            for key, held in reversed(self._findings.items())
        ]  # fmt: skip
        found.sort(key=lambda entry: (not _stands(entry.newest), -entry.newest.window.end_ms))
        return Alerts(
            revision=self.revision,
            alerts=found[:SHOWN],
            standing=sum(_stands(entry.newest) for entry in found),
            total=self.total,
        )

    def marks(self) -> list[Mark]:
        """Return when findings were confirmed, for pictures over event time."""
        return [
            Mark(
                "alert", step.at_ms, _said(held.newest), held.newest.model_version, key
            )
            for key, held in self._findings.items()
            if held.newest.kind in MARKED
            for step in held.steps
            if step.state == "confirmed"
        ]  # fmt: skip


def key_of(alert: Alert) -> str:
    """Return what tells a finding through its states; alerts of the past have no key of theirs."""
    if alert.key:
        return alert.key
    length_ms = alert.window.end_ms - alert.window.start_ms
    return f"{alert.kind}/{alert.metric}/{alert.feature or ''}/{length_ms}"


def _stands(alert: Alert) -> bool:
    # Without a key nobody tells when it ends.
    return bool(alert.key) and alert.state != "resolved"


def _said(alert: Alert) -> str:
    about = f" of {alert.feature}" if alert.feature else ""
    return f"{alert.kind.replace('_', ' ')}: {alert.metric}{about}"
