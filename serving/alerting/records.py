"""Alerts as the records of the alerts topic. Pure."""

from __future__ import annotations

import hashlib

from msgspec import structs

from serving.alerting.finding import LABELS, Finding
from serving.alerting.grouping import Told
from streams.wire import Alert, Positions, Related

RELATED = 20
"""At most so many other figures stand in one alert."""


def alert_of(
    told: Told, action: str, offsets: dict[str, Positions], labels_topic: str | None = None
) -> Alert:
    """Return the record; its id is a function of what was found and where, not of when.

    ``action`` is what the pipeline did about a confirmed alert; nothing is done about others.
    ``labels_topic`` is the name of the topic that an onset among the labels is in.
    """
    finding, metric = told.lead, told.lead.metric
    onset = finding.onset
    if onset is not None and onset.topic == LABELS:
        onset = structs.replace(onset, topic=labels_topic)
    state = told.state
    return Alert(
        alert_id=alert_id(told),
        kind=finding.kind,
        metric=metric.metric,
        feature=metric.feature,
        value=metric.value,
        threshold=metric.threshold or 0.0,
        n=metric.n,
        window=metric.window,
        model_version=metric.model_version,
        cause=_resolved(finding) if state == "resolved" else finding.cause or "",
        offsets=offsets,
        action=action if state == "confirmed" else f"none: {state}",
        key=told.key,
        state=state,
        severity=told.severity,
        group=metric.group,
        p_value=metric.p_value,
        effect=metric.effect,
        reference=f"model {metric.model_version}" if metric.model_version else None,
        onset=onset if state != "resolved" else None,
        impact=told.impact if state != "resolved" else None,
        bins=finding.bins if state != "resolved" else (),
        related=tuple(map(_related, told.related[:RELATED])),
    )


def alert_id(told: Told) -> str:
    """Return the id of an alert's record: of its key, state, window and model."""
    metric = told.lead.metric
    identity = (
        f"{told.key}|{told.state}|{metric.window.start_ms}|{metric.window.end_ms}|"
        f"{metric.model_version}"
    )
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def _related(finding: Finding) -> Related:
    m = finding.metric
    return Related(m.metric, m.feature, m.value, m.effect, m.p_value, m.group)


def _resolved(finding: Finding) -> str:
    metric = finding.metric
    about = f" of {metric.feature}" if metric.feature else ""
    bound = f" below {metric.threshold:.3g}" if metric.threshold is not None else ""
    if finding.excess is not None and finding.excess >= 1 and finding.cause is not None:
        return f"{metric.metric}{about}: {finding.cause}"
    return f"{metric.metric}{about} is back at {metric.value:.3g},{bound} or within chance"
