"""One alert for one change: the figures of a kind that go out of bounds together. Pure.

A change reaches the figures that it touches at different closings, all within the length of their
window. So a figure joins the alert of its kind that was opened less than a window ago, and only one
that comes later, as another change would make it, opens an alert of its own. A figure that comes
back while its alert stands joins that one again, however late. A standing alert is told again where
a figure that was not named in it is confirmed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from serving.alerting.deciding import Judged
from serving.alerting.finding import Finding
from serving.alerting.lifecycle import Change, Lifecycle
from serving.alerting.standing import SEVERITIES
from streams.wire import AlertKind, AlertState, Severity


@dataclass(frozen=True)
class Told:
    """An alert enters a state, or is told ``again`` while it stands: it has grown worse, or the
    figures ``joined`` have joined it.

    ``lead`` is the figure told of, ``related`` the others, by falling size; ``impact`` by how much
    the loss is estimated to have grown.
    """

    key: str
    state: AlertState
    severity: Severity
    lead: Finding
    related: tuple[Finding, ...] = ()
    impact: float | None = None
    again: bool = False
    joined: tuple[Finding, ...] = ()


@dataclass
class Standing:
    """An alert that is not resolved.

    ``members`` are keys of figures, the one first told first; of them ``named`` were told of since
    it was confirmed. ``former`` ones have calmed down. ``severity`` is the highest one told.
    """

    kind: AlertKind
    opened_ms: int
    state: AlertState
    members: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    former: list[str] = field(default_factory=list)
    severity: Severity = "info"

    def calm(self, figures: Lifecycle) -> None:
        """Let go of the members that are out of bounds no more."""
        self.former += [m for m in self.members if not figures.is_followed(m)]
        self.members = [m for m in self.members if figures.is_followed(m)]
        self.named = [m for m in self.named if m in self.members]

    def rejoin(self, member: str) -> None:
        """Take a former member back."""
        self.former.remove(member)
        self.members.append(member)

    def confirm(self, told: Told) -> Told:
        """Take note of what is told; return it as severe as the alert has been."""
        self.state = "confirmed"
        self.severity = max(self.severity, told.severity, key=SEVERITIES.index)
        showing = [told.lead.key, *(each.key for each in told.related)]
        self.named = list(dict.fromkeys([*self.named, *showing]))
        return replace(told, severity=self.severity)


class Grouping:
    """Keeps the alerts that stand."""

    def __init__(self) -> None:
        self._standing: dict[str, Standing] = {}

    def update(
        self, changes: Sequence[Change], judged: Sequence[Judged], figures: Lifecycle, end_ms: int
    ) -> list[Told]:
        """Return what is to be told of ``changes``, those of the closing at ``end_ms``.

        ``figures`` is the lifecycle after them, ``judged`` all figures of the closing.
        """
        by_kind: dict[AlertKind, list[Change]] = {}
        for change in changes:
            by_kind.setdefault(change.finding.kind, []).append(change)
        now = {each.finding.key: each for each in judged}
        told: list[Told] = []
        for kind, of_kind in by_kind.items():
            touched = self._place(kind, of_kind, end_ms)
            for key in touched:
                told += self._tell(key, of_kind, now, figures)
        return told

    def to_json(self) -> Any:
        """Return the state as JSON types."""
        return msgspec.to_builtins(self._standing)

    def load(self, content: Any) -> None:
        """Take over what :meth:`to_json` returned."""
        self._standing = msgspec.convert(content, dict[str, Standing])

    # Inside

    def _place(self, kind: AlertKind, changes: Sequence[Change], end_ms: int) -> list[str]:
        """Put new members into alerts; return the keys of the alerts that ``changes`` touch."""
        touched: dict[str, None] = {}
        newcomers: list[Finding] = []
        for change in changes:
            key = self._alert_of(change.finding.key)
            if key is not None:
                touched[key] = None
                if change.finding.key not in self._standing[key].members:
                    self._standing[key].rejoin(change.finding.key)
            elif change.what != "resolved":
                newcomers.append(change.finding)
        newcomers.sort(key=rank)
        for finding in newcomers:
            key = self._open_for(kind, finding, end_ms)
            if key is None:
                key = f"{finding.key}@{end_ms}"
                self._standing[key] = Standing(kind, end_ms, "suspected")
            self._standing[key].members.append(finding.key)
            touched[key] = None
        return list(touched)

    def _alert_of(self, member: str) -> str | None:
        return next(
            (
                key
                for key, each in self._standing.items()
                if member in each.members or member in each.former
            ),
            None,
        )

    def _open_for(self, kind: AlertKind, finding: Finding, end_ms: int) -> str | None:
        window = finding.metric.window
        for key, each in self._standing.items():
            age_ms = end_ms - each.opened_ms
            if each.kind == kind and age_ms < window.end_ms - window.start_ms:
                return key
        return None

    def _tell(
        self,
        key: str,
        changes: Sequence[Change],
        now: Mapping[str, Judged],
        figures: Lifecycle,
    ) -> list[Told]:
        alert = self._standing[key]
        own = [change for change in changes if change.finding.key in alert.members]
        alert.calm(figures)
        if not alert.members:
            del self._standing[key]
            lead = min((change.finding for change in own), key=rank)
            return [Told(key, "resolved", alert.severity, lead)]
        confirmed = [m for m in alert.members if figures.is_confirmed(m)]
        if alert.state == "suspected":
            if confirmed:
                return [alert.confirm(_told(key, "confirmed", confirmed, alert.members, now))]
            if all(c.what == "suspected" for c in own) and len(own) == len(alert.members):
                # It has just been opened.
                return [_told(key, "suspected", alert.members, alert.members, now)]
            return []
        joined = tuple(
            c.finding for c in own if c.what == "confirmed" and c.finding.key not in alert.named
        )
        if joined or any(change.what == "grown" for change in own):
            told = _told(key, "confirmed", confirmed, alert.members, now)
            return [alert.confirm(replace(told, again=True, joined=joined))]
        return []


def rank(finding: Finding) -> tuple[float, float, float, str]:
    """Return what findings are sorted by: most harm first, then the largest effect, then the
    largest excess over the threshold."""
    impact = finding.impact if finding.impact is not None else -float("inf")
    return -impact, -abs(finding.metric.effect or 0.0), -(finding.excess or 0.0), finding.key


def _told(
    key: str,
    state: AlertState,
    leading: Sequence[str],
    members: Sequence[str],
    now: Mapping[str, Judged],
) -> Told:
    """Return the alert, led by the first in rank of ``leading`` that shows now."""
    showing = sorted((now[m].finding for m in members if m in now and now[m].shows), key=rank)
    lead = next((each for each in showing if each.key in leading), showing[0])
    related = tuple(each for each in showing if each is not lead)
    severity = _severity(showing) if state == "confirmed" else "info"
    return Told(key, state, severity, lead, related, lead.impact)


def _severity(findings: Sequence[Finding]) -> Severity:
    return max((finding.severity for finding in findings), key=SEVERITIES.index)
