"""What is done on the page, and who may."""

from typing import Any, Literal

import msgspec

from serving.dashboard.documents.document import Document


class Session(msgspec.Struct, frozen=True):
    """``GET /api/session``: who looks. ``may_act`` says whether the cookie is there; ``csrf`` is
    then what the header ``X-Kappa-CSRF`` of every action must hold, else None. ``login`` says in
    words how to log in. ``actions`` are the names of those there are."""

    pipeline: str
    may_act: bool
    csrf: str | None
    login: str
    actions: list[str]


class RetrainOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/actions/retrain``. ``window`` is a length such as ``"30d"`` or ``"all"``."""

    reason: str
    start: Literal["full", "warm"] | None = None
    window: str | None = None


class PromoteOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/actions/promote``: ``share`` is of a canary."""

    version: int
    reason: str
    to: Literal["shadow", "canary", "live"] = "live"
    share: float | None = None


class RollBackOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/actions/rollback``: ``version`` None is the live one, ``to`` what answers."""

    reason: str
    version: int | None = None
    to: int | None = None


class PinOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/actions/pin``: ``version`` None lets go of what is pinned on ``definition``."""

    reason: str
    version: int | None = None
    definition: int | None = None


class ReplayOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/actions/replay``: computes features again from the log and compares them with the
    topic byte for byte; event time [since, until), None for all. Takes a while: the answer is the
    state ``started``, and the result comes as ``actions`` of the stream."""

    reason: str
    since_ms: int | None = None
    until_ms: int | None = None


class RetryOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/actions/retry``: dead letters back to their source topic; ``offsets`` of the dead
    letter topic's partition 0, None for all. Each at most once unless ``again``."""

    topic: str
    reason: str
    offsets: list[int] | None = None
    again: bool = False


class Done(msgspec.Struct, frozen=True):
    """The answer of an action. ``text`` says it for people, ``result`` for programs."""

    id: str
    action: str
    state: Literal["started", "done", "failed"]
    text: str
    by: str
    reason: str
    at_ms: int
    result: dict[str, Any]


class Actions(Document, frozen=True, kw_only=True):
    """``GET /api/actions``: what was done from this dashboard since it started, newest first."""

    done: list[Done]
