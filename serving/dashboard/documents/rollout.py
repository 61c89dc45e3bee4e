"""Who answers, and why: the rollout and experiments."""

from typing import Any, Literal

import msgspec

from serving.dashboard.documents.document import Document
from streams.wire import Stage


class Arm(msgspec.Struct, frozen=True):
    """A version in a stage now; ``share`` of the entities that it answers (shadow: None)."""

    version: int
    stage: Stage
    share: float | None


class Judgement(msgspec.Struct, frozen=True):
    """One point of the confidence sequence: the challenger's loss less the live one's.

    ``low`` and ``high`` hold at all times at once; the version is better where ``high`` < 0.
    ``margin`` is by how much it may be worse. ``source`` says whether it is from answers to the
    same events (``pairs``) or side by side (``arms``). ``n`` are the outcomes. ``at_ms`` is when
    the record was written, clock on the wall.
    """

    at_ms: int
    version: int
    against: int | None
    stage: Stage
    verdict: Literal["promote", "hold", "roll_back"]
    reason: str
    rule: str | None
    source: Literal["pairs", "arms"] | None
    mean: float | None
    low: float | None
    high: float | None
    margin: float | None
    n: int | None
    share: float | None
    dry_run: bool


class Guardrail(msgspec.Struct, frozen=True):
    """The newest figure of a guardrail of a version on trial."""

    version: int
    name: str
    value: float | None
    limit: float | None
    tripped: bool


class Changed(msgspec.Struct, frozen=True):
    """A change of the rollout: who decided what and why, when (clock on the wall), at which offset
    of the control log. ``change`` is its number, 0 where it has none."""

    offset: int
    at_ms: int
    change: int
    what: str
    by: str
    reason: str


class RolloutDefinition(msgspec.Struct, frozen=True):
    """Who answers on one definition of the features. ``obeyed``: all partitions are answered as the
    log orders; else ``partitions_left`` are not yet."""

    definition: int
    answering: bool
    live: int
    arms: list[Arm]
    pinned: int | None
    experiment: str | None
    obeyed: bool
    partitions_left: list[int]


class Rollout(Document, frozen=True, kw_only=True):
    """The rollout's state and history; ``changes`` and ``judgements`` ascend in time. ``policy`` is
    what the pipeline file declares, None where versions go live at once."""

    policy: dict[str, Any] | None
    definitions: list[RolloutDefinition]
    judgements: list[Judgement]
    guardrails: list[Guardrail]
    changes: list[Changed]


class Experiment(msgspec.Struct, frozen=True):
    """An A/B experiment. ``plan`` and ``evidence`` are as in the log (plain JSON): what was
    planned, and what was found when it was stopped. How it stands now is told by
    ``GET /api/experiments/findings?name=`` (:class:`ExperimentFindings`)."""

    name: str
    definition: int
    control: int
    arms: list[Arm]
    plan: dict[str, Any]
    reason: str
    started_ms: int
    stopped_ms: int | None
    stop_reason: str | None
    evidence: dict[str, Any] | None


class Experiments(Document, frozen=True, kw_only=True):
    """Experiments, the running ones first, then the newest."""

    experiments: list[Experiment]


class CoursePoint(msgspec.Struct, frozen=True):
    """The primary metric of a treatment less that of the control, of the outcomes up to ``at_ms``
    (event time); ``low`` and ``high`` hold at all times at once."""

    at_ms: int
    version: int
    difference: float | None
    low: float | None
    high: float | None


class ExperimentFindings(msgspec.Struct, frozen=True):
    """``GET /api/experiments/findings?name=``: what an experiment shows now, which reads all of its
    outcomes (seconds). ``verdict`` is ``ship``, ``keep``, ``undecided`` or ``invalid``;
    ``entities`` are those of the control and of each treatment; ``effects`` are as in
    ``kappa experiment report --json``."""

    name: str
    verdict: str
    reason: str
    winner: int | None
    reached: bool
    outcomes: int
    days: float
    entities: list[int]
    effects: list[dict[str, Any]]
    course: list[CoursePoint]
