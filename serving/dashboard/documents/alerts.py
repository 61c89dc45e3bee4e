"""Alerts and trainings."""

from typing import Any, Literal

import msgspec

from serving.dashboard.documents.document import Document
from streams.wire import Alert, Stage


class AlertEntry(msgspec.Struct, frozen=True):
    """A finding: its newest record, and the states that it went through (ascending). ``since_ms``
    is when the newest excursion began: the end of the window (event time) that raised it first.
    ``was`` is the last record of one that is resolved from when it was confirmed: what it was."""

    key: str
    newest: Alert
    since_ms: int
    states: list["AlertStep"]
    was: Alert | None = None


class AlertStep(msgspec.Struct, frozen=True):
    """A state that a finding entered: end of the window (event time), figure and action."""

    state: Literal["suspected", "confirmed", "resolved"]
    at_ms: int
    value: float
    action: str


class Alerts(Document, frozen=True, kw_only=True):
    """Alerts, the standing ones first, each part newest first. ``total`` counts the records of the
    log, also those of which ``alerts`` keeps no more."""

    alerts: list[AlertEntry]
    standing: int
    total: int


class Training(msgspec.Struct, frozen=True):
    """A training: asked for by a command, and what came of it.

    ``state``: ``asked`` (no answer yet), ``registered`` (a version), ``refused``. Versions that no
    command of the log asked for have ``asked_ms`` None. ``metrics`` are the version's figures in
    validation, ``comparison`` what it showed against the live one. ``at_ms``: when it was answered,
    clock on the wall; ``cutoff_ms`` is event time.
    """

    command_id: str
    state: Literal["asked", "registered", "refused"]
    reason: str
    asked_ms: int | None
    at_ms: int | None
    cutoff_ms: int | None
    version: int | None
    definition: int | None
    stage: Stage | None
    parent: int | None
    rows: int | None
    metrics: dict[str, float]
    comparison: dict[str, Any] | None
    run_id: str | None
    refusal: str | None


class Trainings(Document, frozen=True, kw_only=True):
    """Trainings, newest first."""

    trainings: list[Training]
