"""The records on the pipeline's own topics. All values are plain JSON.

Feature records are typed per definition, see :mod:`features.records`. A positions mapping is
``{"0": 123, ...}``: partition (as text, since JSON has no other keys) → *next* offset.
"""

from typing import Any, Literal

import msgspec

Positions = dict[str, int]
Stage = Literal["shadow", "live", "retired"]


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


class Window(msgspec.Struct, frozen=True):
    """A span of event time, [start, end), milliseconds since the epoch, UTC."""

    start_ms: int
    end_ms: int


class Metric(msgspec.Struct, frozen=True):
    """One figure of one closed monitor window (``P.metrics.v1``)."""

    metric: str
    feature: str | None
    value: float
    threshold: float | None
    n: int
    window: Window
    model_version: int


SKEW_METRICS = ("feature_skew", "online_skew")
"""Metrics of the skew audit: the share of the rows compared that were not what the log gives.
``feature`` is the topic or view; their windows are cut by wall-clock time."""


class Alert(msgspec.Struct, frozen=True):
    """A monitor's finding (``P.alerts.v1``). ``alert_id`` is a function of window and metric.

    ``offsets`` are the positions that the monitor had read: topic → positions. ``action`` is what
    the pipeline did about it: ``"retrain"`` or ``"none: <why>"``.
    """

    alert_id: str
    kind: Literal["data_drift", "performance", "skew"]
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


Command = Retrain | Advance


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


class StageChanged(msgspec.Struct, frozen=True, tag="stage"):
    """A version enters a stage; ``since`` (shadow) is the first features offset it answers."""

    version: int
    stage: Stage
    reason: str
    since: Positions | None = None


class Activated(msgspec.Struct, frozen=True, tag="activated"):
    """A worker says from which features offsets on it answers with a version."""

    version: int
    stage: Stage
    worker: str
    positions: Positions


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
        case StageChanged():
            return f"stage/{event.version}/{event.stage}".encode()
        case Activated():
            return f"activated/{event.version}/{event.stage}/{event.worker}".encode()
        case TrainingRefused():
            return f"refused/{event.command_id}".encode()
        case DefinitionChanged():
            return f"definition/{event.change}/{event.definition}".encode()
        case DefinitionActivated():
            return f"definition-activated/{event.change}/{event.partition}".encode()
