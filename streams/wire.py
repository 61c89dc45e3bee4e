"""The records on the pipeline's own topics. All values are plain JSON.

Feature records are typed per definition, see :mod:`features.records`. A positions mapping is
``{"0": 123, ...}``: partition (as text, since JSON has no other keys) → *next* offset.
"""

from typing import Any, Literal

import msgspec

Positions = dict[str, int]
Stage = Literal["shadow", "canary", "experiment", "live", "retired", "rolled_back"]
"""Where a version stands. ``canary`` and ``experiment`` answer a share of the entities beside the
live one, ``shadow`` all events and nobody sees it, ``retired`` and ``rolled_back`` nothing."""


class Source(msgspec.Struct, frozen=True):
    """Where in the log the event stands: topic is the pipeline's events topic."""

    partition: int
    offset: int


class Times(msgspec.Struct, frozen=True):
    """When the event passed each hop, milliseconds since the epoch, UTC."""

    event_ms: int
    featurised_ms: int | None
    predicted_ms: int


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True):
    """One answer (``P.predictions.v1``, ``P.shadow.v1``), keyed by entity.

    ``prediction_id`` is a function of (features topic, partition, offset, model version), so that
    a reader can prove that there is no duplicate. ``score`` is the probability of label 1; of
    several classes that of the most probable one, and ``probabilities`` those of all; of a
    regression the mean, and ``spread`` its standard deviation, in units of the target. What a task
    does not have is left out of the record.
    """

    prediction_id: str
    event_id: str
    entity: str
    score: float
    model_version: int
    stage: Stage
    definition: int
    event_time_ms: int
    source: Source
    times: Times
    probabilities: dict[str, float] | None = None
    spread: float | None = None


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """A prediction and what turned out (``P.outcomes.v1``), keyed by entity: one per prediction
    that gets a label, of the live path, in shadow and over HTTP, in the order of being matched.

    ``label`` is the target of the task: 0 or 1, the number of the class, the value. ``source`` is
    the event's place, ``label_source`` the label's, ``features_partition`` and ``features_offset``
    those of the feature record in its definition's topic (over HTTP there is neither an event nor
    a feature record). ``latency_ms`` is what passed from the features' making to the answer
    (over HTTP from the asking), None where that is not known. ``groups`` are those that the
    definition declares. The other fields are the prediction's.
    """

    prediction_id: str
    event_id: str
    entity: str
    score: float
    label: float
    model_version: int
    stage: Stage
    definition: int
    event_time_ms: int
    label_time_ms: int
    label_source: Source
    source: Source | None = None
    features_offset: int | None = None
    features_partition: int | None = None
    latency_ms: int | None = None
    probabilities: dict[str, float] | None = None
    spread: float | None = None
    groups: dict[str, str] | None = None


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row asked over HTTP and its answer (``P.requests.v1``), keyed by entity.

    ``features`` are those that the model saw, by name; ``origin`` says where they came from:
    ``"given"`` by the client or ``"store"``. ``event_id`` is the client's, by which a label can
    find it, or else ``request_id``.
    """

    request_id: str
    event_id: str
    entity: str
    score: float
    model_version: int
    stage: Stage
    definition: int
    asked_ms: int
    answered_ms: int
    origin: Literal["given", "store"]
    features: dict[str, Any]
    probabilities: dict[str, float] | None = None
    spread: float | None = None


class Window(msgspec.Struct, frozen=True):
    """A span of event time, [start, end), milliseconds since the epoch, UTC."""

    start_ms: int
    end_ms: int


class Metric(msgspec.Struct, frozen=True, omit_defaults=True):
    """One figure of one closed monitor window (``P.metrics.v1``).

    ``group`` is ``"field=value"`` where the figure is of a group. ``p_value`` is adjusted for all
    figures judged together; ``effect`` is the size of the difference in units of its own;
    ``low`` and ``high`` bound the value (95 %). ``observed`` are the window's counts in the
    reference's bins, for pictures. ``by`` says by what the window is cut: the events' time, or the
    arrival of their labels. ``restated`` counts how often the same figure was told before: the last
    one counts.
    """

    metric: str
    feature: str | None
    value: float
    threshold: float | None
    n: int
    window: Window
    model_version: int
    group: str | None = None
    p_value: float | None = None
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    observed: tuple[int, ...] | None = None
    by: Literal["event", "label"] = "event"
    restated: int = 0


SKEW_METRICS = ("feature_skew", "online_skew")
"""Metrics of the skew audit: the share of the rows compared that were not what the log gives.
``feature`` is the topic or view; their windows are cut by wall-clock time."""

AlertKind = Literal[
    "data_drift", "prediction_drift", "concept_drift", "performance", "fairness", "health", "skew"
]
AlertState = Literal["suspected", "confirmed", "resolved"]
Severity = Literal["info", "warning", "critical"]


class Onset(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a change is estimated to have begun: event time, and the record of the features topic
    (or of the topic named) from which on."""

    time_ms: int
    partition: int | None = None
    offset: int | None = None
    topic: str | None = None


class ShiftedBin(msgspec.Struct, frozen=True):
    """A bin of a feature whose share has changed: shares in [0, 1]."""

    bin: str
    expected: float
    observed: float


class Related(msgspec.Struct, frozen=True, omit_defaults=True):
    """Another figure that is out of bounds in the same window, told in the same alert."""

    metric: str
    feature: str | None
    value: float
    effect: float | None = None
    p_value: float | None = None
    group: str | None = None


class Alert(msgspec.Struct, frozen=True, omit_defaults=True):
    """A monitor's finding (``P.alerts.v1``), one record per state that it enters.

    ``alert_id`` is a function of window, metric and state; ``key`` is that of the finding through
    all of its states, by which receivers tell repetitions. ``offsets`` say up to where the monitor
    had read: topic → positions of the first records of later windows. ``action`` is what the
    pipeline did about it: ``"retrain"``, ``"hold rollout"``, ``"roll back"`` or ``"none: <why>"``.

    ``p_value`` is adjusted for all that was judged together; ``effect`` the size of the difference;
    ``reference`` says what was compared with (``"model 3"``); ``impact`` is by how much the loss is
    estimated to have grown through it, None where that is not known; ``bins`` the most shifted
    ones; ``related`` what else is out of bounds, by falling effect; ``link`` a page about it.
    """

    alert_id: str
    kind: AlertKind
    metric: str
    feature: str | None
    value: float
    threshold: float
    n: int
    window: Window
    model_version: int
    cause: str
    offsets: dict[str, Positions]
    action: str
    key: str = ""
    state: AlertState = "confirmed"
    severity: Severity = "warning"
    group: str | None = None
    p_value: float | None = None
    effect: float | None = None
    reference: str | None = None
    onset: Onset | None = None
    impact: float | None = None
    bins: tuple[ShiftedBin, ...] = ()
    related: tuple[Related, ...] = ()
    link: str | None = None


class Hop(msgspec.Struct, frozen=True):
    """What passed through one hop of a process since its last report: ``records`` of them, and how
    long they took, milliseconds, as counts of a histogram: ``counts[i]`` records took at most
    ``HOP_EDGES_MS[i]``, the last all longer."""

    name: str
    records: int
    counts: tuple[int, ...]


HOP_EDGES_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000)


class Vitals(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one process of the pipeline is (``P.health.v1``), every few seconds, keyed by ``worker``.

    ``at_ms`` and ``began_ms`` (when the process started) are wall-clock times, ``cpu`` the share of
    one core used since the last report, sizes are bytes. ``figures`` are the process's own, by
    name, as ``lag/<topic>/<partition>``, ``dead_letters/<topic>`` or ``restarts``.
    """

    worker: str
    role: str
    at_ms: int
    began_ms: int
    pid: int
    cpu: float
    memory_bytes: int
    host: str = ""
    disk_free_bytes: int | None = None
    network_in_bytes: int | None = None
    network_out_bytes: int | None = None
    gpu_busy: float | None = None
    gpu_memory_bytes: int | None = None
    hops: tuple[Hop, ...] = ()
    figures: dict[str, float] = {}


class Retrain(msgspec.Struct, frozen=True, tag="retrain"):
    """Command: train on what has arrived and, if it passes, put the model live.

    ``start`` and ``window`` (a length, or ``"all"`` for the whole log) are in place of what the
    pipeline file declares; None leaves that.
    """

    command_id: str
    reason: str
    cutoff_ms: int
    start: Literal["full", "warm"] | None = None
    window: str | None = None


class Advance(msgspec.Struct, frozen=True, tag="advance"):
    """Command: event time has reached ``event_time_ms``; close what ends there.

    Needed where a stream pauses: windows close by event time, and without events nobody knows
    that it passes.
    """

    command_id: str
    event_time_ms: int


class Retried(msgspec.Struct, frozen=True, tag="retried", omit_defaults=True):
    """An operator has dead letters of ``topic`` sent back to where they came from: ``offsets`` of
    its partition 0, ascending. Written before they are sent: of two that name the same letter the
    first one in the log sends it, unless the second says ``again``.
    """

    command_id: str
    topic: str
    offsets: tuple[int, ...]
    reason: str
    again: bool = False


Command = Retrain | Advance | Retried


class Registered(msgspec.Struct, frozen=True, tag="registered"):
    """A model version exists. ``manifest`` says what made it, ``uri`` where its package lies.

    ``definition`` is the version of the features that it was trained on, and answers.
    ``comparison`` is what it showed against the model that was live, with the figures
    (:class:`training.retraining.comparison.Comparison`); None where nobody looked.
    """

    version: int
    command_id: str
    uri: str
    sha256: str
    manifest: dict[str, Any]
    metrics: dict[str, float]
    run_id: str | None
    definition: int = 1
    comparison: dict[str, Any] | None = None


class Arm(msgspec.Struct, frozen=True):
    """A version that answers a ``share`` of the entities, in (0, 1], beside the live one."""

    version: int
    stage: Stage
    share: float


class Routing(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who answers whom on one definition: :func:`streams.assignment.versions_of` says it of any
    entity. Without ``arms`` the version ``live`` (0: the prior) answers all."""

    live: int
    salt: str = ""
    arms: tuple[Arm, ...] = ()


class StageChanged(msgspec.Struct, frozen=True, tag="stage", omit_defaults=True):
    """A version enters a stage.

    ``since`` (shadow) are the first features offsets it answers. ``share`` and ``salt`` (canary)
    say whom it answers. ``instead`` (rolled_back, of the live version) is what answers from here
    on, 0 for the prior. ``by`` says who decided ("operator", "trainer", "policy", "online", ...),
    ``evidence`` holds the figures behind it.

    ``change`` numbers the changes of a log, 1, 2, ...: the record counts only if it is the next
    one, so of two who decide on the same state at once the second decided on nothing. 0 is a change
    that is not numbered, and always counts.
    """

    version: int
    stage: Stage
    reason: str
    since: Positions | None = None
    share: float | None = None
    salt: str = ""
    instead: int | None = None
    by: str = ""
    evidence: dict[str, Any] | None = None
    change: int = 0


class Pinned(msgspec.Struct, frozen=True, tag="pinned", omit_defaults=True):
    """The operator pins what is live on a definition (``version``), or lets go of it (None).

    While it is pinned, only the operator's changes of live, canary and experiments count.
    """

    definition: int
    version: int | None
    reason: str
    change: int = 0


class ExperimentStarted(msgspec.Struct, frozen=True, tag="experiment", omit_defaults=True):
    """An A/B experiment begins: ``arms`` (stage ``experiment``) against the ``control``, which is
    live on ``definition``. ``plan`` holds what was planned: metric, effect, sizes."""

    name: str
    definition: int
    control: int
    arms: tuple[Arm, ...]
    salt: str
    plan: dict[str, Any]
    reason: str
    change: int = 0


class ExperimentStopped(msgspec.Struct, frozen=True, tag="experiment_stopped", omit_defaults=True):
    """An experiment ends: its arms answer no more. What won is put live by a change of its own."""

    name: str
    reason: str
    evidence: dict[str, Any] | None = None
    change: int = 0


class Judged(msgspec.Struct, frozen=True, tag="judged", omit_defaults=True):
    """What the policy finds of a version in a stage, with the figures; written where it changes.

    ``dry_run``: the policy only says what it would do.
    """

    version: int
    stage: Stage
    verdict: Literal["promote", "hold", "roll_back"]
    reason: str
    evidence: dict[str, Any]
    dry_run: bool = False


class Activated(msgspec.Struct, frozen=True, tag="activated", omit_defaults=True):
    """A worker says from which features offsets on it answers with a version.

    Of the live path ``routing`` is the whole answer to who answers whom there (None in records of
    the past: the version alone). Which routing answered a record of partition p at offset o: that
    of the last such record in the log with ``positions[p] <= o``; before all of them the prior.
    ``definition`` is the one whose features the positions are of (None in records of the past:
    that of the version).
    """

    version: int
    stage: Stage
    worker: str
    positions: Positions
    routing: Routing | None = None
    definition: int | None = None


class TrainingRefused(msgspec.Struct, frozen=True, tag="refused"):
    """A retraining that made no new live model, and why."""

    command_id: str
    reason: str


class DefinitionChanged(msgspec.Struct, frozen=True, tag="definition"):
    """The operator's order number ``change`` (1, 2, ...): answer from another definition.

    ``before`` is the definition that answered so far, ``model_version`` what answers first on the
    new one (0: the prior). ``at`` are offsets of the events topic before which no partition
    switches. Of definitions of one key each partition switches by itself; else (``together``) the
    events of a partition are spread over all of the features topic, and the ``partitions`` decide
    together. See :mod:`streams.cutover`.
    """

    change: int
    definition: int
    before: int
    model_version: int
    partitions: int
    reason: str
    together: bool = False
    at: Positions | None = None


class DefinitionActivated(msgspec.Struct, frozen=True, tag="definition_activated"):
    """The holder of one partition obeys an order: ``positions`` are offsets of the events topic
    before which nothing may be answered from the new definition."""

    change: int
    definition: int
    partition: int
    positions: Positions
    worker: str


ModelEvent = (
    Registered
    | StageChanged
    | Pinned
    | ExperimentStarted
    | ExperimentStopped
    | Judged
    | Activated
    | TrainingRefused
    | DefinitionChanged
    | DefinitionActivated
)


def model_event_key(event: ModelEvent) -> bytes:
    """Return the compaction key under which the control log keeps the event."""
    match event:
        case Registered():  # by its command too: the first of two for one number must stay
            return f"registered/{event.version}/{event.command_id}".encode()
        case StageChanged(change=0):
            return f"stage/{event.version}/{event.stage}".encode()
        case StageChanged():
            return f"change/{event.change}/{event.stage}/{event.version}/{event.by}".encode()
        case Pinned():
            return f"change/{event.change}/pinned/{event.definition}".encode()
        case ExperimentStarted():
            return f"change/{event.change}/experiment/{event.name}".encode()
        case ExperimentStopped():
            return f"change/{event.change}/experiment-stopped/{event.name}".encode()
        case Judged():
            return f"judged/{event.version}/{event.stage}".encode()
        case Activated():
            # By its offsets too: who answered what has to be told of all of the past.
            at = ",".join(f"{p}:{offset}" for p, offset in sorted(event.positions.items()))
            of = "" if event.definition is None else f"v{event.definition}/"
            return f"activated/{of}{event.version}/{event.stage}/{event.worker}/{at}".encode()
        case TrainingRefused():
            return f"refused/{event.command_id}".encode()
        case DefinitionChanged():
            return f"definition/{event.change}/{event.definition}".encode()
        case DefinitionActivated():
            return f"definition-activated/{event.change}/{event.partition}".encode()
