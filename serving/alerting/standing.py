"""Which alerts stand: a fold over the alerts topic, for all who pass alerts on or act. Pure.

A key stands from its first ``confirmed`` record until its ``resolved`` one. Whoever is told of an
alert is told of both, and of nothing that was only suspected.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import structlog

from serving.alerting.declared import Policy
from streams.wire import Alert, Severity

SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
"""From the least on."""

_LOG = structlog.get_logger()
_decode = msgspec.json.Decoder(Alert).decode


@dataclass(frozen=True)
class Standing:
    """An alert that stands: its newest record, and the offset at which it was first confirmed."""

    alert: Alert
    since_offset: int


class Alerts:
    """The fold. ``standing`` maps an alert's key to what stands, the oldest first."""

    def __init__(self) -> None:
        self.standing: dict[str, Standing] = {}
        self._seen: set[str] = set()

    def take(self, alert: Alert, offset: int) -> bool:
        """Take the record at ``offset``; return whether it is news for those who are told.

        A record whose id came before is a repetition by a restarted monitor. Records without a key
        are of a time before alerts were resolved: they are news, and do not stand.
        """
        if alert.alert_id in self._seen:
            return False
        self._seen.add(alert.alert_id)
        if alert.state == "suspected":
            return False
        if not alert.key:
            return True
        known = self.standing.get(alert.key)
        if alert.state == "resolved":
            self.standing.pop(alert.key, None)
            return known is not None
        since = offset if known is None else known.since_offset
        self.standing[alert.key] = Standing(alert, since)
        return True

    def of(self, policies: Iterable[Policy]) -> list[Standing]:
        """Return what stands that one of the policies is about, the oldest first."""
        chosen = tuple(policies)
        return [s for s in self.standing.values() if any(concerns(p, s.alert) for p in chosen)]


def alert_in(value: bytes | None) -> Alert | None:
    """Return the alert that a record holds; one that holds none is passed over, and told in the
    program's log: it must not end whoever reads the topic."""
    try:
        return _decode(value or b"")
    except msgspec.MsgspecError as bad:
        _LOG.warning("a record of the alerts topic that is no alert", why=str(bad))
        return None


def concerns(policy: Policy, alert: Alert) -> bool:
    """Return whether a policy is about an alert: its kind, and at least its severity."""
    return alert.kind in policy.kinds and at_least(alert.severity, policy.severity)


def at_least(severity: Severity, least: Severity) -> bool:
    """Return whether ``severity`` is ``least`` or worse."""
    return SEVERITIES.index(severity) >= SEVERITIES.index(least)
