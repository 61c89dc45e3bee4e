"""The dashboard's knowledge of a pipeline: what comes from the log goes to the folds, what the
broker tells to the pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import msgspec
import structlog

from serving.dashboard.alert_list import AlertList
from serving.dashboard.board import Board
from serving.dashboard.documents.actions import Actions, Done
from serving.dashboard.documents.document import Document
from serving.dashboard.documents.health import Broker
from serving.dashboard.documents.overview import Count, Overview
from serving.dashboard.documents.topics import TopicList
from serving.dashboard.drift_map import DriftMap
from serving.dashboard.experiment_list import ExperimentList
from serving.dashboard.fairness_table import FairnessTable
from serving.dashboard.flow import Picture, counted, edges_of, nodes_of, picture_of
from serving.dashboard.following import Row
from serving.dashboard.health_board import HealthBoard
from serving.dashboard.kept import section_of
from serving.dashboard.measuring import Measured
from serving.dashboard.performance_lines import PerformanceLines
from serving.dashboard.rates import Rates
from serving.dashboard.rollout_story import RolloutStory
from serving.dashboard.topic_list import topics_document
from serving.dashboard.training_list import TrainingList
from serving.pipeline import Pipeline
from serving.rollout.status import Logged
from streams.topics import dead_letter_topic
from streams.wire import Alert, Command, Metric, ModelEvent, Vitals

_LOG = structlog.get_logger(__name__)

ACTIONS_KEPT = 50
SELDOM = 5
"""Looks at the broker between two of which the page of health is told anew."""


class _Section:
    """A section made by a function, at a revision that is counted elsewhere."""

    def __init__(self, revision: Callable[[], int], make: Callable[[], Document]) -> None:
        self._revision, self.whole = revision, make

    @property
    def revision(self) -> int:
        return self._revision()


class Folds:
    """All that the page shows of one pipeline; ``board`` gives it to readers.

    Args:
        pipeline: what is declared.
        address: of the broker, as it is shown.
        actions: the names of the actions that there are.
        now_ms: the clock on the wall.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        address: str,
        actions: Sequence[str],
        now_ms: Callable[[], int],
    ) -> None:
        self.pipeline, self._now_ms, self._action_names = pipeline, now_ms, list(actions)
        policy = None if pipeline.rollout is None else asdict(pipeline.rollout)
        self.rollout = RolloutStory(pipeline.features.version, pipeline.events.partitions, policy)
        self.drift, self.performance = DriftMap(), PerformanceLines()
        self.fairness, self.alerts = FairnessTable(), AlertList()
        self.experiments, self.trainings = ExperimentList(), TrainingList()
        self.health, self.picture = HealthBoard(), picture_of(pipeline)
        self._taken: dict[str, int] = {}
        self._broker = Broker(address, "away", now_ms(), None, "not asked yet")
        self._measured: Measured | None = None
        self._rates, self._looks, self._ticks = Rates(), 0, 0
        self._done: list[Done] = []
        self._done_revision = 0
        topics = pipeline.topics
        self._takes: dict[str, Callable[[Row], None]] = {
            topics.metrics: self._metric,
            topics.alerts: self._alert,
            topics.models: self._model_event,
            topics.commands: self._command,
            topics.health: self._vitals,
        }
        self.board = Board(
            {
                "overview": _Section(lambda: self._ticks, self._overview),
                "drift": self.drift,
                "performance": self.performance,
                "fairness": self.fairness,
                "rollout": self.rollout,
                "experiments": self.experiments,
                "health": _Section(self._health_revision, self._health),
                "alerts": self.alerts,
                "trainings": _Section(
                    lambda: self.trainings.revision + self.rollout.revision, self._trainings
                ),
                "topics": _Section(lambda: self._looks, self._topics),
                "actions": _Section(lambda: self._done_revision, self._actions),
            }
        )

    @property
    def topics(self) -> list[str]:
        """The topics whose records it takes."""
        return list(self._takes)

    @property
    def picture_groups(self) -> dict[str, str]:
        """Role → consumer group of what is drawn."""
        return self.picture.groups

    def take(self, rows: Sequence[Row]) -> None:
        """Add records; one that can't be read is told of once, and left out."""
        if not rows:
            return
        with self.board.changing():
            for row in rows:
                if row.offset <= self._taken.get(row.topic, -1):
                    continue  # read anew, after the connection was lost for good
                self._taken[row.topic] = row.offset
                try:
                    self._takes[row.topic](row)
                except (msgspec.MsgspecError, KeyError, ValueError) as error:
                    _LOG.warning(
                        "a record is not shown", topic=row.topic, offset=row.offset, why=str(error)
                    )
            self.performance.mark("alerts", self.alerts.marks())
            self.performance.mark("rollout", self.rollout.marks())

    def measured(self, found: Measured) -> None:
        """Add a look at the broker."""
        with self.board.changing():
            if self._broker.state == "away":
                self._rates.forget()
            since = self._broker.since_ms if self._broker.state == "up" else self._now_ms()
            self._broker = Broker(self._broker.address, "up", since, found.answer_ms, None)
            before, self._measured = self._measured, found
            self._rates.take(found.at_ms, counted(self.picture, found))
            changed = before is None or (before.ends, before.begins) != (found.ends, found.begins)
            self._looks += changed
            self._ticks += 1

    def away(self, why: str) -> None:
        """Tell that the broker does not answer."""
        with self.board.changing():
            now_ms = self._now_ms()
            since = self._broker.since_ms if self._broker.state == "away" else now_ms
            self._broker = Broker(self._broker.address, "away", since, None, why)
            self._rates.forget()
            self._ticks += 1

    def acted(self, done: Done) -> None:
        """Add what an action did, in place of what was told of it before."""
        with self.board.changing():
            self._done = [done, *(each for each in self._done if each.id != done.id)]
            del self._done[ACTIONS_KEPT:]
            self._done_revision += 1

    def _metric(self, row: Row) -> None:
        metric = _METRIC.decode(row.value)
        section = section_of(metric)
        if section == "drift":
            self.drift.take(metric)
        elif section == "fairness":
            self.fairness.take(metric)
        elif section == "performance":
            self.performance.take(metric)

    def _alert(self, row: Row) -> None:
        self.alerts.take(_ALERT.decode(row.value))

    def _model_event(self, row: Row) -> None:
        event: ModelEvent = _EVENT.decode(row.value)
        logged = Logged(row.offset, row.timestamp_ms, event)
        before, answering = self.rollout.revision, self.rollout.answering
        self.rollout.take(logged)
        if self.rollout.revision == before:
            return  # it does not count
        self.experiments.take(logged)
        self.trainings.take(logged)
        if self.rollout.answering != answering:
            self.picture = self._picture(self.rollout.answering)

    def _picture(self, definition: int) -> Picture:
        declared = {each.version for each in self.pipeline.definitions}
        return picture_of(self.pipeline, definition if definition in declared else None)

    def _command(self, row: Row) -> None:
        command: Command = _COMMAND.decode(row.value)
        self.trainings.asked(row.timestamp_ms, command)

    def _vitals(self, row: Row) -> None:
        self.health.take(_VITALS.decode(row.value))

    def _overview(self) -> Overview:
        now_ms, topics, found = self._now_ms(), self.pipeline.topics, self._measured
        heard = self.health.heard(now_ms)
        dead = [dead_letter_topic(topics.events), dead_letter_topic(topics.labels)]
        away = self._broker.state == "away"
        return Overview(
            revision=self._ticks,
            pipeline=self.pipeline.name,
            timezone=self.pipeline.timezone,
            now_ms=now_ms,
            broker=self._broker.state,
            broker_since_ms=self._broker.since_ms,
            definition=self.rollout.answering,
            live=self.rollout.state.live,
            live_since_ms=self.rollout.live_since_ms,
            newest_event_ms=None if found is None else found.newest_event_ms,
            events=self._count(topics.events),
            predictions=self._count(topics.predictions),
            labels=self._count(topics.labels),
            dead_letters=self._count(*dead),
            standing=self.alerts.standing(),
            nodes=nodes_of(self.picture, found, self._rates, heard),
            edges=edges_of(self.picture, found, self._rates),
            actions=[] if away else self._action_names,
        )

    def _count(self, *topics: str) -> Count:
        found = self._measured
        rates = [self._rates.of(topic) for topic in topics]
        known = [rate for rate in rates if rate is not None]
        total = 0 if found is None else sum(map(found.records, topics))
        return Count(total, sum(known) if known else None)

    def _health_revision(self) -> int:
        """Grow with the reports, and slowly with the looks at the broker: it is not small."""
        return self.health.revision + self._ticks // SELDOM + (self._broker.state == "away")

    def _health(self) -> Document:
        return self.health.document(
            self._now_ms(),
            self._health_revision(),
            self._broker,
            self._measured,
            self.picture.groups,
        )

    def _trainings(self) -> Document:
        document = self.trainings.whole(self.rollout.state)
        revision = self.trainings.revision + self.rollout.revision
        return msgspec.structs.replace(document, revision=revision)

    def _topics(self) -> TopicList:
        return topics_document(self._looks, self.picture, self._measured, self._rates)

    def _actions(self) -> Actions:
        return Actions(revision=self._done_revision, done=self._done)


_METRIC = msgspec.json.Decoder(Metric)
_ALERT = msgspec.json.Decoder(Alert)
_EVENT: msgspec.json.Decoder[Any] = msgspec.json.Decoder(ModelEvent)
_COMMAND: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Command)
_VITALS = msgspec.json.Decoder(Vitals)
