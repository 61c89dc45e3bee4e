"""The life of a figure that is out of bounds: suspected, confirmed, resolved. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from serving.alerting.deciding import Judged
from serving.alerting.declared import Alerting
from serving.alerting.finding import Finding

GROWN = 2.0
"""A confirmed figure that has grown by this factor since its change has run through its window
has met another change."""

What = Literal["suspected", "confirmed", "grown", "resolved"]


@dataclass(frozen=True)
class Change:
    """A figure enters a state, or has ``grown`` while confirmed."""

    what: What
    finding: Finding


@dataclass
class Track:
    """A figure's way. ``shown`` says of its last closings, newest last, whether it was out of
    bounds; ``doubled`` whether it was so by :data:`GROWN` times ``level``, the most that its first
    change made of it. ``missing`` counts closings that had no such figure."""

    last: Finding
    shown: list[bool] = field(default_factory=list)
    doubled: list[bool] = field(default_factory=list)
    confirmed_ms: int | None = None
    level: float = 0.0
    missing: int = 0


class Lifecycle:
    """Follows every figure that has been out of bounds.

    Of the last n closings of a figure m must show it out of bounds (``alerting.confirm``); before
    it is suspected. A confirmed figure is resolved when it is below ``alerting.resolve``; a
    suspected one also when none of its last n closings showed it. A figure that is not measured
    any more for as long as its window, and n closings, is resolved too.
    """

    def __init__(self, alerting: Alerting, step_ms: int) -> None:
        self._m, self._n = alerting.confirm
        self._calm, self._step_ms = alerting.resolve, step_ms
        self._tracks: dict[str, Track] = {}

    def update(self, judged: Sequence[Judged], end_ms: int) -> list[Change]:
        """Take all figures of the closing at ``end_ms``; return what changed, in their order."""
        changes: list[Change] = []
        for each in judged:
            track = self._tracks.get(each.finding.key)
            if track is not None:
                changes += self._follow(track, each, end_ms)
            elif each.shows:
                changes += self._begin(each, end_ms)
        measured = {each.finding.key for each in judged}
        return changes + self._not_measured(measured)

    def is_confirmed(self, key: str) -> bool:
        """Return whether a figure, by its key, stands confirmed."""
        track = self._tracks.get(key)
        return track is not None and track.confirmed_ms is not None

    def is_followed(self, key: str) -> bool:
        """Return whether a figure, by its key, is suspected or confirmed."""
        return key in self._tracks

    def to_json(self) -> Any:
        """Return the state as JSON types."""
        return msgspec.to_builtins(self._tracks)

    def load(self, content: Any) -> None:
        """Take over what :meth:`to_json` returned."""
        self._tracks = msgspec.convert(content, dict[str, Track])

    # Inside

    def _begin(self, each: Judged, end_ms: int) -> list[Change]:
        track = self._tracks[each.finding.key] = Track(each.finding, [True])
        if self._m == 1:
            return [self._confirm(track, each.finding, end_ms)]
        return [Change("suspected", each.finding)]

    def _follow(self, track: Track, each: Judged, end_ms: int) -> list[Change]:
        finding, excess = each.finding, each.finding.excess or 0.0
        track.missing = 0
        track.shown = [*track.shown, each.shows][-self._n :]
        if each.shows:
            track.last = _small(finding)
        if excess < self._calm or (track.confirmed_ms is None and not any(track.shown)):
            del self._tracks[finding.key]
            return [Change("resolved", finding)]
        if track.confirmed_ms is None:
            enough = sum(track.shown) >= self._m
            return [self._confirm(track, finding, end_ms)] if enough else []
        if end_ms - track.confirmed_ms < _length_ms(finding):
            track.level = max(track.level, excess)
            return []
        doubled = each.shows and excess >= GROWN * track.level
        track.doubled = [*track.doubled, doubled][-self._n :]
        if sum(track.doubled) < self._m:
            return []
        self._confirm(track, finding, end_ms)
        return [Change("grown", finding)]

    def _confirm(self, track: Track, finding: Finding, end_ms: int) -> Change:
        track.confirmed_ms, track.level, track.doubled = end_ms, finding.excess or 0.0, []
        return Change("confirmed", finding)

    def _not_measured(self, measured: set[str]) -> list[Change]:
        changes = []
        for key in sorted(self._tracks.keys() - measured):
            track = self._tracks[key]
            track.missing += 1
            steps = _length_ms(track.last) // self._step_ms
            if track.missing >= max(self._n, steps):
                del self._tracks[key]
                why = "not measured any more"
                changes.append(Change("resolved", replace(track.last, cause=why)))
        return changes


def _length_ms(finding: Finding) -> int:
    window = finding.metric.window
    return window.end_ms - window.start_ms


def _small(finding: Finding) -> Finding:
    """Return the finding without what only a new alert needs."""
    metric = msgspec.structs.replace(finding.metric, observed=None)
    return replace(finding, metric=metric, bins=(), onset=None)
