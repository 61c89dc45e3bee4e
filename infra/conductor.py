"""Plays a stream through a running pipeline, faster than life but in event-time order.

One step of event time at a time: (1) produce it, (2) wait until features, inference, shadow and
monitor have drained, (3) say by an ``advance`` command that event time has got there, (4) wait
until the monitor has closed its windows and the trainer has answered, (5) wait until a new model
is active. Only then the next step is played, so the same input gives the same models.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec
from kafka.protocol.consumer.offsets import IsolationLevel

from features.processing.stages import Stage
from serving.rollout.obeying import obeyed
from streams.changes import Changes
from streams.control import ControlFollower, ControlWriter, decode_model_events
from streams.errors import BrokerError
from streams.positions import PositionReader
from streams.producing import Player
from streams.rollout import Rollout
from streams.topics import Topics
from streams.wire import (
    Advance,
    Alert,
    DefinitionChanged,
    Judged,
    Registered,
    StageChanged,
    TrainingRefused,
)

if TYPE_CHECKING:
    from streams.wire import ModelEvent, Positions

POLL_S = 0.01
STALL_S = 300.0


@dataclass(frozen=True)
class Progress:
    """Where the play stands; handed to the observer after every change."""

    event_time_ms: int = 0
    events: int = 0
    labels: int = 0
    features: int = 0
    predictions: int = 0
    lag: int = 0
    doing: str = "starting"
    live: int = 0
    alerts: int = 0
    news: tuple[str, ...] = ()


Observer = Callable[[Progress], None]


@dataclass
class Conductor:
    """Plays one stream. ``check`` raises when a process of the pipeline is beyond help.

    ``first_in_shadow`` keeps the first model answering in shadow, for comparison; so does
    ``frozen_at_ms`` with the model that is live at that event time. ``stages`` returns the stages
    that make the features of the definition that the topics are of; without it there is one.
    ``beside`` are the roles that follow the outcomes, where there are any: a step is over when
    they have drained too, and the workers answer as was decided.
    """

    bootstrap: str
    topics: Topics
    partitions: int
    step_ms: int
    player: Player
    observer: Observer
    check: Callable[[], None]
    frozen_at_ms: int | None = None
    first_in_shadow: bool = True
    stall_s: float = STALL_S
    stages: Callable[[Topics], Sequence[Stage]] | None = None
    beside: Collection[str] = ()
    progress: Progress = field(default_factory=Progress)
    rollout: Rollout = field(default_factory=Rollout)
    frozen_version: int | None = None
    first_version: int | None = None

    def run(self) -> None:
        """Play to the end. Raises BrokerError where nothing moves for ``stall_s`` seconds."""
        self._positions = PositionReader(self.bootstrap)
        self._models = ControlFollower(self.bootstrap, self.topics.models)
        self._alerts = ControlFollower(self.bootstrap, self.topics.alerts)
        self._confirmed: set[str] = set()
        self._writer = ControlWriter(self.bootstrap)
        self._changes = Changes(self.bootstrap, self.topics.models)
        try:
            while (next_ms := self.player.peek_time_ms()) is not None:
                self._play_step((next_ms // self.step_ms + 1) * self.step_ms)
        finally:
            self._positions.close()
            self._models.close()
            self._alerts.close()
            self._changes.close()

    def _play_step(self, tick_ms: int) -> None:
        self._tell(doing="playing")
        delivered = self.player.play_until(tick_ms)
        self._tell(
            event_time_ms=tick_ms,
            events=self.progress.events + delivered.events,
            labels=self.progress.labels + delivered.labels,
        )
        self._drain()
        command = Advance(command_id=f"advance-{tick_ms}", event_time_ms=tick_ms)
        self._writer.append_command(self.topics.commands, command)
        self._await_group("monitor", {self.topics.commands: 1}, "closing windows")
        self._await_group("trainer", {self.topics.commands: 1}, "training")
        self._read_control_logs()
        self._await_obeyed()
        self._keep_for_comparison(tick_ms)

    @property
    def current(self) -> Topics:
        """The topics as the definition has them that was ordered last."""
        ordered = self.rollout.cutovers.definition
        return self.topics if ordered is None else replace(self.topics, definition=ordered)

    def _drain(self) -> None:
        keyed, topics = self.partitions, self.current
        if self.stages is None:
            self._await_group("features", {topics.events: keyed}, "computing features")
        for stage in self.stages(topics) if self.stages else ():
            self._await_group(stage.role, {stage.input: keyed}, "computing features")
        features = {topics.features: keyed}
        self._await_group("inference", features, "predicting")
        self._await_group("shadow", features, "predicting in shadow")
        # The features that the monitor counts are changed when a step closes: it reads them to
        # their ends before that by itself.
        inputs = {topics.predictions: keyed, topics.labels: keyed}
        self._await_group("monitor", inputs, "monitoring")
        if self.beside:
            self._drain_outcomes()
        ends = self._positions.ends(features)[topics.features]
        answered = self._positions.committed(topics.group("inference"))
        self._tell(
            features=sum(ends.values()),
            predictions=sum(answered.get(topics.features, {}).values()),
        )

    def _drain_outcomes(self) -> None:
        keyed, topics = self.partitions, self.current
        inputs = [topics.predictions, topics.shadow, topics.labels]
        self._await_group("outcomes", dict.fromkeys(inputs, keyed), "joining labels")
        for role in sorted({"rollout", "online"}.intersection(self.beside)):
            if role == "online" and self.rollout.live == 0:
                continue  # from the prior there is nothing to go on learning
            doing = "judging" if role == "rollout" else "learning"
            self._await_group(role, {topics.outcomes: keyed}, doing)

    def _await_group(self, role: str, topics: dict[str, int], doing: str) -> None:
        """Wait until ``role``'s group has committed the ends of ``topics``."""
        group = self.current.group(role)

        def lag() -> int:
            return sum(self._positions.lag(group, topics).values())

        self._await(lag, f"{doing} ({role})")

    def _await(self, lag: Callable[[], int], doing: str) -> None:
        smallest: int | None = None
        deadline = time.monotonic() + self.stall_s
        while (now := lag()) > 0:
            if smallest is None or now < smallest:
                smallest = now
                deadline = time.monotonic() + self.stall_s
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"nothing moved for {self.stall_s:.0f} s while {doing}, lag {now}: "
                    "see the processes' log files"
                )
            self.check()
            starting = "" if self.progress.predictions else "waiting for the processes: "
            self._tell(doing=starting + doing, lag=now)
            time.sleep(POLL_S)
        self._tell(lag=0)

    def _await_obeyed(self) -> None:
        """Wait until all partitions are answered by whom the log names."""

        def missing() -> int:
            self._read_control_logs()
            return len(obeyed(self.rollout, self.current.definition, self.partitions).left)

        self._await(missing, f"switching to model {self.rollout.live}")

    def _await_shadow(self, version: int) -> None:
        def missing() -> int:
            self._read_control_logs()
            found = any(key[:2] == (version, "shadow") for key in self.rollout.activated)
            return 0 if found else 1

        self._await(missing, f"switching to model {version} (shadow)")

    def _keep_for_comparison(self, tick_ms: int) -> None:
        if self.rollout.live == 0:
            return
        if self.first_in_shadow and self.first_version is None:
            self.first_version = self.rollout.live
            self._to_shadow(self.first_version, "the first model, for comparison")
        # The step that contains the moment is played with the version frozen before it.
        due = self.frozen_at_ms is not None and tick_ms + self.step_ms > self.frozen_at_ms
        if due and self.frozen_version is None:
            self.frozen_version = self.rollout.live
            self._to_shadow(self.frozen_version, "the frozen model, for comparison")

    def _to_shadow(self, version: int, reason: str) -> None:
        if version in self.rollout.shadows:
            return
        features = replace(
            self.topics, definition=self.rollout.versions[version].definition
        ).features
        ends = self._positions.ends({features: self.partitions})[features]
        since: Positions = {str(partition): end for partition, end in sorted(ends.items())}
        event = StageChanged(version, "shadow", reason, since=since, by="conductor")
        self._changes.decide(lambda state: None if version in state.shadows else event)
        self._await_shadow(version)

    def _read_control_logs(self) -> None:
        # To the very end: a change may stand behind a worker's transaction that is still open.
        ends = self._positions.ends({self.topics.models: 1}, IsolationLevel.READ_UNCOMMITTED)
        events = decode_model_events(self._models.read_to(ends[self.topics.models][0]))
        self.rollout = self.rollout.apply_all(events)
        told = [msgspec.json.decode(value, type=Alert) for value in self._alerts.catch_up()]
        confirmed = [alert for alert in told if alert.state == "confirmed"]
        self._confirmed.update(alert.key or alert.alert_id for alert in confirmed)
        news = [*(f"ALERT {alert.cause}" for alert in confirmed), *map(describe_event, events)]
        if news:
            self._tell(
                live=self.rollout.live,
                alerts=len(self._confirmed),
                news=tuple(text for text in news if text),
            )

    def _tell(self, **changes: object) -> None:
        self.progress = replace(self.progress, **{"news": (), **changes})  # type: ignore[arg-type]
        self.observer(self.progress)


def describe_event(event: "ModelEvent") -> str:
    """Return a line for people about a control event, empty where it is of no interest."""
    match event:
        case Registered():
            loss = event.metrics.get("log_loss", float("nan"))
            return f"model {event.version} trained, log loss {loss:.4f} on later data"
        case StageChanged():
            share = "" if event.share is None else f" {event.share:.0%}"
            return f"model {event.version} → {event.stage.replace('_', ' ')}{share}: {event.reason}"
        case Judged(dry_run=True):
            return f"model {event.version} would {event.verdict.replace('_', ' ')}: {event.reason}"
        case TrainingRefused():
            return f"training refused: {event.reason}"
        case DefinitionChanged():
            return f"definition v{event.before} → v{event.definition}: {event.reason}"
        case _:
            return ""
