"""Alerts to Prometheus' Alertmanager, by its API v2 (``POST /api/v2/alerts``).

There an alert is what its labels are; it ends at ``endsAt``. One that stands is sent again every
minute with an end some minutes ahead, as Prometheus does, so that an alert whose sender is gone
does not stand for ever; one that is resolved ends now.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from serving.alerting.declared import Alertmanager
from serving.alerting.sending import Poster
from streams.clock import Clock, SystemClock
from streams.wire import Alert, Severity

BEATS_EVERY_S = 60.0
LASTS_S = 600.0
"""Without a beat for so long an alert ends there: more than a restart of this process takes."""


class AlertmanagerTarget:
    """Sends each record, and what stands every minute.

    ``clock`` tells the time. Errors as :class:`serving.alerting.sending.Poster`.
    """

    beats_every_s: float | None = BEATS_EVERY_S

    def __init__(self, declared: Alertmanager, pipeline: str, clock: Clock | None = None) -> None:
        self._pipeline, self._clock = pipeline, clock or SystemClock()
        self._poster = Poster(f"{declared.url.rstrip('/')}/api/v2/alerts")
        self.name = f"alertmanager {self._poster.name}"
        self.severity: Severity = declared.severity

    def send(self, alert: Alert, before: Alert | None = None, /) -> None:
        """Send a record. Errors as :meth:`serving.alerting.sending.Poster.post`."""
        now_ms = self._clock.now_ms()
        body = [posted(self._pipeline, alert, now_ms)]
        if before is not None and labels(self._pipeline, before) != body[0]["labels"]:
            # With other labels, as it is led by another figure now, it is another alert there.
            ended = posted(self._pipeline, before, now_ms, is_over=True)
            body.insert(0, ended)
        self._poster.post(body)

    def beat(self, standing: Iterable[Alert]) -> None:
        """Send what stands again, so that it does not end there. Errors as :meth:`send`."""
        now_ms = self._clock.now_ms()
        self._poster.post([posted(self._pipeline, alert, now_ms) for alert in standing])

    def close(self) -> None:
        """Close the connections."""
        self._poster.close()


def posted(pipeline: str, alert: Alert, now_ms: int, is_over: bool = False) -> dict[str, Any]:
    """Return an alert as the API takes it.

    It starts where its window ended, or now if that is ahead of the clock; its end is now where it
    is resolved (``is_over`` says so of any), and :data:`LASTS_S` ahead else.
    """
    is_over = is_over or alert.state == "resolved"
    begins_ms = min(alert.window.end_ms, now_ms - 1)
    body: dict[str, Any] = {
        "labels": labels(pipeline, alert),
        "annotations": _annotations(alert),
        "startsAt": _rfc3339(begins_ms),
        "endsAt": _rfc3339(now_ms if is_over else now_ms + round(LASTS_S * 1000)),
    }
    if alert.link:
        body["generatorURL"] = alert.link
    return body


def labels(pipeline: str, alert: Alert) -> dict[str, str]:
    """Return what tells the alert from others there. The figure that leads it, and so the metric
    and the feature, may be another one later on."""
    found = {
        "alertname": f"Kappa{alert.kind.title().replace('_', '')}",
        "pipeline": pipeline,
        "kind": alert.kind,
        "metric": alert.metric,
        "feature": alert.feature or "",
        "group": alert.group or "",
        "key": alert.key or alert.alert_id,
        "severity": alert.severity,
    }
    return {name: value for name, value in found.items() if value}


def _annotations(alert: Alert) -> dict[str, str]:
    window = f"{_rfc3339(alert.window.start_ms)} to {_rfc3339(alert.window.end_ms)}"
    found = {
        "summary": alert.cause,
        "value": f"{alert.value:.6g}",
        "threshold": f"{alert.threshold:.6g}",
        "p_value": "" if alert.p_value is None else f"{alert.p_value:.3g}",
        "effect": "" if alert.effect is None else f"{alert.effect:.3g}",
        "n": str(alert.n),
        "window": window,
        "onset": "" if alert.onset is None else _rfc3339(alert.onset.time_ms),
        "model": str(alert.model_version),
        "reference": alert.reference or "",
        "related": ", ".join(r.feature or r.metric for r in alert.related),
        "action": alert.action,
    }
    return {name: value for name, value in found.items() if value}


def _rfc3339(time_ms: int) -> str:
    at = datetime.fromtimestamp(time_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
