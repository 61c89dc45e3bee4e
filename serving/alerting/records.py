"""Alerts as the records of the alerts topic. Pure."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

from msgspec import structs

from serving.alerting.finding import LABELS, Finding
from serving.alerting.grouping import Told
from streams.wire import Alert, Positions, Related

RELATED = 20
"""At most so many other figures stand in one alert."""
NAMED = 3
"""At most so many that joined a standing alert are named in its cause."""


def alert_of(
    told: Told,
    action: str,
    offsets: dict[str, Positions],
    labels_topic: str | None = None,
    dashboard: str | None = None,
) -> Alert:
    """Return the record; its id is a function of what was found and where, not of when.

    ``action`` is what the pipeline did about a confirmed alert; nothing is done about others.
    ``labels_topic`` is the name of the topic that an onset among the labels is in, ``dashboard``
    the address of the pipeline's page.
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
        cause=_resolved(finding) if state == "resolved" else _cause(told),
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
        link=link_to(dashboard, told.key),
    )


def link_to(dashboard: str | None, key: str) -> str | None:
    """Return the address of an alert on the pipeline's page, None where that has no address.

    >>> link_to("https://kappa.example.org/", "data_drift/psi/hour/604800000@1584748800000")
    'https://kappa.example.org/#alerts/data_drift%2Fpsi%2Fhour%2F604800000%401584748800000'
    """
    return None if dashboard is None else f"{dashboard.rstrip('/')}/#alerts/{quote(key, safe='')}"


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


def _cause(told: Told) -> str:
    """Return why, and what has joined the alert since it was told last."""
    cause = told.lead.cause or ""
    newcomers = [each for each in told.joined if each.key != told.lead.key]
    if not newcomers:
        return cause
    names = [_name(each) for each in newcomers[:NAMED]]
    more = f" and {len(newcomers) - NAMED} more" if len(newcomers) > NAMED else ""
    return f"{cause}; now also {', '.join(names)}{more}"


def _name(finding: Finding) -> str:
    metric = finding.metric
    about = f" of {metric.feature}" if metric.feature else ""
    group = f" [{metric.group}]" if metric.group else ""
    return f"{metric.metric}{about}{group} {metric.value:.3g}"


def _resolved(finding: Finding) -> str:
    metric = finding.metric
    about = f" of {metric.feature}" if metric.feature else ""
    bound = f" below {metric.threshold:.3g}" if metric.threshold is not None else ""
    if finding.excess is not None and finding.excess >= 1 and finding.cause is not None:
        return f"{metric.metric}{about}: {finding.cause}"
    return f"{metric.metric}{about} is back at {metric.value:.3g},{bound} or within chance"
