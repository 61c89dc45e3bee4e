"""The JSON documents that the dashboard's page gets: one per section, and those of the actions.

Times end in ``_ms``: milliseconds since the epoch, UTC. Durations end in ``_s`` or ``_ms`` too and
say so. Shares are in [0, 1], rates in records per second, sizes in bytes. None is "not known" (or
"does not apply"), and never 0. A version 0 of a model is the pipeline's stated prior.

``GET /api/<section>`` gives a section whole. ``GET /api/stream`` sends server-sent events named by
the section with the same document as data whenever it has changed; of :class:`Drift` and
:class:`Performance` only what is new (``whole`` is false), to be merged by window.
"""

from typing import Any, Literal

import msgspec

from streams.wire import Alert, Stage


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What every section has: ``revision`` grows with each change of the section, from 1 on."""

    revision: int = 0


# --- overview ------------------------------------------------------------------------------------


class Node(msgspec.Struct, frozen=True):
    """A topic or a process of the flow picture.

    ``id`` is ``"topic:<name>"`` or ``"role:<name>"``; ``label`` is short, for the box. ``column``
    and ``row`` place it on a grid, left to right as the data flow. ``state`` of a process:
    ``running`` (told of itself of late), ``silent`` (told before, not now), ``unknown`` (never
    told); of a topic ``present`` or ``missing``. ``records`` are those of a topic that are kept,
    ``rate`` records/s appended to it, or processed by the process. ``lag`` are records that a
    process has not committed yet.
    """

    id: str
    kind: Literal["topic", "process"]
    label: str
    column: int
    row: int
    state: Literal["running", "silent", "unknown", "present", "missing"]
    records: int | None = None
    rate: float | None = None
    lag: int | None = None


class Edge(msgspec.Struct, frozen=True):
    """Data flow from a node to another (ids). ``rate`` is records/s along it, ``lag`` the records
    that the reading process is behind in this topic (None on edges that write)."""

    source: str
    target: str
    rate: float | None = None
    lag: int | None = None


class Count(msgspec.Struct, frozen=True):
    """A number for the head of the page: ``total`` records, and records/s now."""

    total: int
    rate: float | None = None


class Overview(Document, frozen=True, kw_only=True):
    """The head of the page and the flow picture.

    ``broker`` says whether the broker answers; ``broker_since_ms`` since when that is so (clock on
    the wall). ``newest_event_ms`` is the newest event time that any closed window or prediction
    shows. ``definition`` is the version of the features that answers, ``live`` the model's.
    ``standing`` are the alerts that are suspected or confirmed and not resolved, newest first.
    ``actions`` are those that are allowed here (empty where the page may only read).
    ``now_ms`` is the server's clock on the wall as the document was made.
    """

    pipeline: str
    timezone: str
    now_ms: int
    broker: Literal["up", "away"]
    broker_since_ms: int
    definition: int
    live: int
    live_since_ms: int | None
    newest_event_ms: int | None
    events: Count
    predictions: Count
    labels: Count
    dead_letters: Count
    standing: list[Alert]
    nodes: list[Node]
    edges: list[Edge]
    actions: list[str]


# --- drift ---------------------------------------------------------------------------------------


class DriftWindow(msgspec.Struct, frozen=True):
    """A column of the heat map: event time [start, end) and the model that it was compared with."""

    start_ms: int
    end_ms: int
    model_version: int


class DriftFigures(msgspec.Struct, frozen=True):
    """One metric (``psi``, ``ks``, ``chi_squared``, ``wasserstein``, ``missing``, ...) of all
    features and windows.

    Each list is by row: ``value[row][column]`` belongs to ``features[row]`` and
    ``windows[column]``; None where it was not judged. ``p`` is adjusted for all that was judged
    together, ``effect`` in units of its own, ``n`` events in the window. ``thresholds[row]`` is
    the newest threshold of the row. ``excess[row][column]`` is value / threshold, where there is a
    threshold: at 1 or above it matters.
    """

    metric: str
    value: list[list[float | None]]
    p: list[list[float | None]]
    effect: list[list[float | None]]
    n: list[list[int | None]]
    excess: list[list[float | None]]
    thresholds: list[float | None]


class Drift(Document, frozen=True, kw_only=True):
    """The heat map: features × closed windows.

    ``features`` are row labels: a feature's name, or ``name[field=value]`` of a group, or
    ``prediction`` for the scores. ``windows`` ascend by end, then start. Where ``whole`` is false
    it holds only the windows that are new or judged anew, for all features: replace columns of the
    same (start, end, version), insert the others, and widen rows that are new by None.
    The two distributions of a cell come from ``GET /api/drift/cell``.
    """

    whole: bool = True
    features: list[str]
    windows: list[DriftWindow]
    figures: list[DriftFigures]


class DriftCell(msgspec.Struct, frozen=True):
    """``GET /api/drift/cell?feature=&start_ms=&end_ms=&version=``: two distributions of a feature.

    ``bins`` are labels; ``expected`` and ``observed`` the shares per bin, each summing to 1
    (``expected`` None where the reference can't be had, ``observed`` where the window's counts are
    not kept), ``expected_n`` and ``n`` of how many. ``reference`` says what the expected come from,
    ``why`` what is missing and why, for people. ``figures`` are all metrics of the cell.
    """

    feature: str
    window: DriftWindow
    bins: list[str]
    expected: list[float] | None
    observed: list[float] | None
    expected_n: int | None
    n: int | None
    reference: str | None
    why: str | None
    figures: list["CellFigure"]


class CellFigure(msgspec.Struct, frozen=True):
    """A metric of one feature in one window."""

    metric: str
    value: float
    threshold: float | None
    p: float | None
    effect: float | None


# --- performance ---------------------------------------------------------------------------------


class Series(msgspec.Struct, frozen=True):
    """One metric of one version (and group) over event time, as columns of equal length.

    ``low`` and ``high`` bound ``value`` (95 %). ``end_ms`` are the windows' ends, ascending, and
    ``start_ms`` their starts. ``restated`` counts how often a figure was told before as late labels
    came. ``by``: windows cut by the events' time, or by the labels' arrival. ``estimated`` marks
    figures made without labels. ``group`` is ``"field=value"`` or None.
    """

    metric: str
    version: int
    group: str | None
    by: Literal["event", "label"]
    estimated: bool
    start_ms: list[int]
    end_ms: list[int]
    value: list[float]
    low: list[float | None]
    high: list[float | None]
    threshold: list[float | None]
    n: list[int]
    restated: list[int]


class Mark(msgspec.Struct, frozen=True):
    """A vertical line in the pictures over time.

    ``at_ms`` is event time: an alarm's window end, a training's cut-off, the newest event time that
    was known when a version went live. ``alert_key`` leads to the alert.
    """

    kind: Literal["alert", "training", "live", "rolled_back"]
    at_ms: int
    label: str
    version: int | None = None
    alert_key: str | None = None


class Performance(Document, frozen=True, kw_only=True):
    """Performance over event time, of each version. ``metrics`` are the names, the first is shown
    first; ``higher_is_better`` those that rise where the model is better. Where ``whole`` is false,
    series hold only points that are new or restated: merge by (metric, version, group, by) and
    (start_ms, end_ms); ``marks`` and the other lists are whole in any case."""

    whole: bool = True
    metrics: list[str]
    higher_is_better: list[str]
    versions: list[int]
    groups: list[str]
    series: list[Series]
    marks: list[Mark]


# --- fairness ------------------------------------------------------------------------------------


class FairnessFigure(msgspec.Struct, frozen=True):
    """A figure of one group, or the gap or ratio between groups (``group`` is then the field's name
    or ``"field=value"`` of the group that stands out)."""

    metric: str
    group: str
    value: float
    low: float | None
    high: float | None
    threshold: float | None
    n: int


class FairnessWindow(msgspec.Struct, frozen=True):
    """All figures of one window and version."""

    start_ms: int
    end_ms: int
    version: int
    restated: int
    figures: list[FairnessFigure]


class Fairness(Document, frozen=True, kw_only=True):
    """Fairness over the declared groups; windows ascend by end. ``fields`` are the group fields,
    ``metrics`` the names of the figures."""

    fields: list[str]
    metrics: list[str]
    windows: list[FairnessWindow]


# --- rollout -------------------------------------------------------------------------------------


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


# --- experiments ---------------------------------------------------------------------------------


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


# --- health --------------------------------------------------------------------------------------


class Process(msgspec.Struct, frozen=True):
    """The newest report of a process. ``cpu`` is the share of one core, ``history`` the last ones
    (ascending) for small charts. ``silent_s`` is how long it has not told of itself, seconds."""

    worker: str
    role: str
    host: str
    pid: int
    state: Literal["running", "silent"]
    at_ms: int
    began_ms: int
    silent_s: float
    cpu: float
    memory_bytes: int
    disk_free_bytes: int | None
    network_in_bytes: int | None
    network_out_bytes: int | None
    gpu_busy: float | None
    gpu_memory_bytes: int | None
    figures: dict[str, float]
    history: list["VitalsPoint"]


class VitalsPoint(msgspec.Struct, frozen=True):
    """CPU (share of a core) and memory of a process at a time."""

    at_ms: int
    cpu: float
    memory_bytes: int


class PartitionLag(msgspec.Struct, frozen=True):
    """How far a role is behind in one partition: records not committed yet; ``end`` is the topic's
    end, ``committed`` the next offset to read (None: nothing was committed)."""

    role: str
    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int


class HopFigures(msgspec.Struct, frozen=True):
    """Latency of one hop over the last minutes: ``counts[i]`` records took at most ``edges_ms[i]``
    (of :class:`Health`), the last count all longer. ``p50_ms``, ``p99_ms`` are upper ends of the
    bins that hold them, None where that is beyond the last edge or nothing passed. ``rate`` is
    records/s."""

    name: str
    role: str
    records: int
    rate: float | None
    counts: list[int]
    p50_ms: float | None
    p99_ms: float | None


class Broker(msgspec.Struct, frozen=True):
    """The broker: its address, whether it answers, since when, how long it took (milliseconds), and
    why not."""

    address: str
    state: Literal["up", "away"]
    since_ms: int
    answer_ms: float | None
    why: str | None


class Health(Document, frozen=True, kw_only=True):
    """Processes, lag, latency and the broker."""

    now_ms: int
    broker: Broker
    processes: list[Process]
    lag: list[PartitionLag]
    edges_ms: list[int]
    hops: list[HopFigures]


# --- alerts --------------------------------------------------------------------------------------


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


# --- trainings -----------------------------------------------------------------------------------


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


# --- topics and records --------------------------------------------------------------------------


class Partition(msgspec.Struct, frozen=True):
    """Offsets of a partition: ``begin`` is the first that is kept, ``end`` the next to come."""

    partition: int
    begin: int
    end: int


class TopicFigures(msgspec.Struct, frozen=True):
    """A topic. ``records`` is the sum of end less begin: an upper bound where a topic is compacted
    or transactional. ``size_bytes`` is None where the broker does not tell."""

    topic: str
    kind: Literal["source", "features", "answers", "control", "figures", "dead_letters", "other"]
    present: bool
    records: int
    rate: float | None
    size_bytes: int | None
    partitions: list[Partition]


class TopicList(Document, frozen=True, kw_only=True):
    """All topics of the pipeline, in the order of the data."""

    topics: list[TopicFigures]


class Record(msgspec.Struct, frozen=True):
    """A record. ``value`` is its JSON where ``format`` is ``json``, text where ``text``, base64
    where ``binary``, and None where the record has no value (``empty``) or is longer than is shown
    (``cut`` is then true and ``value`` the beginning as text or base64). ``size_bytes`` is that of
    the value. ``retried`` (dead letters): how often it was sent back by now."""

    partition: int
    offset: int
    timestamp_ms: int
    key: str | None
    headers: dict[str, str]
    format: Literal["json", "text", "binary", "empty"]
    value: Any
    size_bytes: int
    cut: bool
    retried: int | None = None


class Records(msgspec.Struct, frozen=True):
    """``GET /api/records?topic=&partition=&offset=|time_ms=|&newest=true&filter=&limit=``.

    ``partition`` is optional with ``time_ms`` or ``newest``. ``limit`` is 1 to 200 [50]. ``filter``
    is a text that the key, a header or the value's bytes must hold (case matters not). A filter
    looks at ``scanned`` records at most (50,000): ``complete`` is false where it stopped before the
    end. ``next`` maps a partition (as text) to the offset from which to go on.
    """

    topic: str
    records: list[Record]
    scanned: int
    complete: bool
    next: dict[str, int]


# --- actions and session -------------------------------------------------------------------------


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


SECTIONS = {
    "overview": Overview,
    "drift": Drift,
    "performance": Performance,
    "fairness": Fairness,
    "rollout": Rollout,
    "experiments": Experiments,
    "health": Health,
    "alerts": Alerts,
    "trainings": Trainings,
    "topics": TopicList,
    "actions": Actions,
}
"""Section (path and name of the event) → its document."""
