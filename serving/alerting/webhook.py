"""Alerts to a webhook: one POST of JSON per record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import asdict

from serving.alerting.declared import Webhook
from serving.alerting.sending import Poster
from streams.wire import Alert, Severity

NAMED = 3
"""At most so many other figures are named in the text."""


class WebhookTarget:
    """Sends each record. Errors as :class:`serving.alerting.sending.Poster`."""

    beats_every_s: float | None = None

    def __init__(self, declared: Webhook, pipeline: str) -> None:
        self._pipeline = pipeline
        self._poster = Poster(declared.url, declared.token)
        self.name = f"webhook {self._poster.name}"
        self.severity: Severity = declared.severity

    def send(self, alert: Alert, _before: Alert | None = None, /) -> None:
        """Send a record. Errors as :meth:`serving.alerting.sending.Poster.post`."""
        body = webhook_body(self._pipeline, alert)
        self._poster.post(body, {"Idempotency-Key": alert.alert_id})

    def beat(self, standing: Iterable[Alert]) -> None:
        """Nothing: a webhook is told once."""

    def close(self) -> None:
        """Close the connections."""
        self._poster.close()


def webhook_body(pipeline: str, alert: Alert) -> dict[str, Any]:
    """Return what is sent: the record with all of its fields (the topic leaves out what is as by
    default, such as the state `confirmed`), and ``text`` in words, which chat services show."""
    state = "resolved" if alert.state == "resolved" else alert.severity
    action = "" if alert.action.startswith("none") else f"; {alert.action}"
    others = [related.feature or related.group or related.metric for related in alert.related]
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    beside = f" (with {', '.join(others[:NAMED])}{more})" if others else ""
    page = f" {alert.link}" if alert.link else ""
    return {
        "pipeline": pipeline,
        "text": f"[{state}] {pipeline}: {alert.cause}{beside}{action}{page}",
        "alert": asdict(alert),
    }
