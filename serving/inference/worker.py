"""Streaming inference: every feature record is answered exactly once, by the version then live.

One loop serves two roles that differ in what answers and where to: ``inference`` answers with the
live version, ``shadow`` with every version in shadow, as a group of its own that costs the live
path nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import structlog

from features.definition import Definition
from features.records import FeatureCodec
from serving.inference.announcing import News, control_records
from serving.inference.answers import AnswerCodec, not_answered, questions, traced
from serving.inference.histories import HistoryKeeper, history_keeper
from serving.inference.loading import Loaded, LoadedBeside, Loader
from serving.inference.packaged import packaged_models
from serving.inference.predicting import Predicting, Read
from serving.inference.readiness import Readiness
from serving.inference.reading import Reading, sources_of
from serving.inference.router import Role, Router
from serving.inference.seeking import finder
from serving.inference.stretches import Place, Position, Taken
from serving.inference.switching import Switch, check_first
from serving.inference.transaction import TransactionalHop
from serving.stopping import until_signal
from streams import hops
from streams.clock import Clock, SystemClock
from streams.control import ControlFollower, decode_model_events
from streams.errors import BrokerError
from streams.settings import Settings
from streams.stream import EventStream, LabelStream
from streams.topics import Topics
from streams.tracing import Spans
from streams.watchdog import beat
from streams.wire import Positions
from training.networks.declared import own_networks
from training.spec import Model

POLL_S = 0.1
SETTLE_S = 60.0

_LOG = structlog.get_logger(__name__)


class InferenceWorker:
    """Consume → decode → predict → produce, one transaction per micro-batch.

    Args:
        bootstrap: the brokers.
        hop: the connection to the features topics, see :class:`TransactionalHop`.
        topics: the pipeline's topics.
        definitions: what the feature records look like; the first answers until a cut-over.
        events, labels: the streams that they are made of.
        router: which versions answer.
        control: the control log; caught up with before the first batch.
        histories: the last events of entities, for models that see them.
        clock: for ``times.predicted_ms``, the one value that is not a function of the log.
    """

    def __init__(
        self,
        bootstrap: str,
        hop: TransactionalHop,
        topics: Topics,
        definitions: Sequence[Definition],
        events: EventStream,
        labels: LabelStream | None,
        router: Router,
        control: ControlFollower,
        histories: HistoryKeeper,
        role: Role,
        clock: Clock,
    ) -> None:
        self._hop, self._topics, self._router = hop, topics, router
        self._control, self._role, self._histories = control, role, histories
        sources = sources_of(topics, definitions, events, labels)
        self._reading = Reading(sources, definitions[0].version, finder(bootstrap))
        self._switch = Switch(bootstrap, topics, events.partitions, hop.worker)
        self._version_of = {source.topic: version for version, source in sources.items()}
        self._features = {d.version: FeatureCodec(d, events, labels) for d in definitions}
        codecs = {
            version: AnswerCodec(
                features_topic=source.topic,
                topic=topics.predictions if role == "inference" else topics.shadow,
                source=f"/{topics.name}/{role}",
                definition=version,
                task=router.task,
            )
            for version, source in sources.items()
        }
        self._assignments = 0
        self._predicting = Predicting(router, histories, codecs, clock)
        self._readiness = Readiness(histories, router, self._reading, hop, self._version_of, role)

    def run(self, stop: threading.Event) -> None:
        """Answer until ``stop`` is set; the batch at hand is finished first.

        Raises:
            BrokerError: the broker can't be reached or refuses repeatedly.
            StateError: a features topic holds what no feature worker of its definition wrote.
            ConfigurationError: the definition that answers is not declared.
        """
        self._follow(self._control.catch_up())
        while not stop.is_set():
            beat()
            taken = self._hop.take()
            self._follow(self._control.poll())
            if self._hop.assignments != self._assignments:
                self._settle()
            self._readiness.prepare()
            if not self._obey():
                continue  # what was taken is read again
            if taken.reached:
                self._answer(taken)
            else:
                self._announce()
            self._read()

    def _follow(self, values: list[bytes]) -> None:
        self._router.follow(decode_model_events(values))
        self._reading.follow(self._router.rollout.cutovers)

    def _settle(self) -> None:
        """Wait until the control log says all that the committed positions know of."""
        self._assignments = self._hop.assignments
        # Up to the end that counts what is being committed: what was committed with the positions
        # may stand behind a transaction that is still open.
        self._follow(self._control.catch_up(SETTLE_S, with_open=True))
        self._router.settle()
        deadline_s = time.monotonic() + SETTLE_S
        for (_, partition), at in self._hop.committed.items():
            while self._reading.cutovers.reached(partition) < at.change:
                if time.monotonic() > deadline_s:
                    raise BrokerError(
                        f"{self._topics.models}: partition {partition} has answered the order "
                        f"{at.change} of another definition, which does not show in the log for "
                        f"{SETTLE_S:.0f} s; start the worker again, and see that the log is whole"
                    )
                self._follow(self._control.poll(POLL_S))

    def _obey(self) -> bool:
        """Answer the orders of another definition; return False where that failed."""
        if self._role != "inference":
            return True
        said = self._switch.answers(self._reading, self._hop, self._readiness.can_begin)
        if not said.events:
            return True
        if not self._hop.commit([said.outgoing], said.reached):
            return False
        self._router.follow(said.events)
        self._reading.follow(self._router.rollout.cutovers)
        return True

    def _read(self) -> None:
        hop = self._hop
        if self._role == "inference":
            wanted = self._reading.wanted(hop.held, hop.committed, hop.positions)
        else:
            shadows: dict[int, list[Positions]] = {}
            for chosen in self._router.answering:
                shadows.setdefault(chosen.definition, []).append(chosen.since)
            wanted = self._reading.wanted_in_shadow(hop.held, hop.committed, hop.positions, shadows)
        begun = {
            place: replace(at, change=self._reading.cutovers.reached(place[1]))
            for place, at in wanted.items()
            if place not in hop.positions and at != hop.committed.get(place, Position(0))
        }
        hop.read(wanted)
        if begun:  # where it begins is where the group stands, though nothing may come for long
            hop.commit([], begun)

    def _announce(self) -> None:
        """Say who answers from here on though nothing comes, where the log does not say it yet."""
        news = self._news()
        if news.events and self._hop.commit(news.outgoing, news.reached):
            self._announced(news)

    def _news(self) -> News:
        # Every batch is committed before the next is taken, so what the hop holds as positions are
        # exactly the first offsets which the versions that answer now will answer.
        positions: dict[int, dict[int, int]] = {}
        for (topic, partition), at in self._hop.positions.items():
            positions.setdefault(self._version_of[topic], {})[partition] = at.next_offset
        news = News()
        for definition, offsets in positions.items():
            events = self._router.to_announce(offsets, definition)
            news.events.extend(events)
            told = {partition for event in events for partition in event.positions}
            for (topic, partition), at in self._hop.positions.items():
                if self._version_of[topic] == definition and str(partition) in told:
                    news.reached[topic, partition] = at  # by it a worker put out can't say a thing
        if news.events:
            news.outgoing.append(control_records(self._topics.models, news.events))
        return news

    def _announced(self, news: News) -> None:
        self._router.announced(news.events)
        for event in news.events:
            _LOG.info(
                "answering", version=event.version, stage=event.stage, since=event.positions,
                arms=[f"{arm.version}: {arm.share:.3g}" for arm in event.routing.arms]
                if event.routing else [],
            )  # fmt: skip

    def _answer(self, taken: Taken) -> None:
        reached: dict[Place, Position] = {}
        read: list[Read] = []
        spans: list[tuple[Spans, list[int]]] = []
        for place, offset in taken.reached.items():
            change = self._reading.cutovers.reached(place[1])
            reached[place] = replace(self._hop.positions[place], next_offset=offset, change=change)
        for stretch in taken.stretches:
            log = stretch.log
            hops.count(log.topic, len(log))
            version, place = self._version_of[log.topic], (log.topic, log.partition)
            every = questions(self._features[version].decode(log), log.offsets, stretch.headers)
            every, begun = traced(every, log.topic, self._topics.group(self._role))
            end = self._reading.passed(version, every.rows) if self._role == "inference" else None
            if end is not None:
                reached[place] = replace(reached[place], next_offset=int(log.offsets[end]))
                every = every.select(np.arange(len(every)) < end)
            if len(every):
                sources, before = every.rows.source_offsets, reached[place].answered
                new = not_answered(sources, before)
                if self._role == "inference":
                    new &= self._reading.answers(version, every.rows)
                if begun is not None:
                    spans.append((begun, every.offsets[new].tolist()))
                read.append(Read(version, place, self._hop.positions[place], every, new))
                answered = max(before, int(sources.max()))
                reached[place] = replace(reached[place], answered=answered)
        outgoing = self._predicting.outgoing(read)
        news = self._news()  # after the answers, as one of those who answer may have failed
        if self._hop.commit([*news.outgoing, *outgoing], {**news.reached, **reached}):
            self._histories.confirm(reached)
            self._announced(news)
            for begun, answered_at in spans:
                begun.end(answered_at)
        else:
            self._histories.forget()


def run_inference(
    bootstrap: str,
    topics: Topics,
    definitions: Sequence[Definition],
    events: EventStream,
    model: Model,
    home: Path,
    role: Role,
    worker: str = "inference-0",
    max_batch: int = 10_000,
    *,
    labels: LabelStream | None = None,
    load: Loader | None = None,
    transactional: bool = True,
    clock: Clock | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Run a worker of ``role`` until SIGTERM or SIGINT (or ``stop``), then end cleanly.

    Args:
        definitions: all that the pipeline declares; the first answers until a cut-over.
        home: the folder of the pipeline's state.
        worker: the worker's lasting name, one per process of the role.
        max_batch: records per transaction at most.
        load: loads a registered version; model packages by default.
        transactional: for tests only, see :class:`TransactionalHop`.

    Raises:
        BrokerError: the broker can't be reached or refuses repeatedly.
        StateError: the features topic holds what no feature worker of this definition wrote.
        ConfigurationError: the definition that answers is not declared, or not as the first.
    """
    versions = [definition.version for definition in definitions]
    loader = load or packaged_models(
        own_networks(model.network), model.task, Settings().answer_with
    )
    models = LoadedBeside(loader) if role == "inference" else Loaded(loader)
    router = Router(role, worker, model.prior, models, versions, model.task)
    control = ControlFollower(bootstrap, topics.models)
    try:
        router.follow(decode_model_events(control.catch_up()))
        if role == "inference":
            cutovers = router.rollout.cutovers
            check_first(bootstrap, topics, topics.group(role), cutovers, versions[0])
    except BaseException:
        control.close()
        raise
    inputs = [source.topic for source in sources_of(topics, definitions, events, labels).values()]
    hop = TransactionalHop(
        bootstrap,
        topics.predictions if role == "inference" else topics.shadow,
        inputs,
        topics.group(role),
        worker,
        max_batch=max_batch,
        transactional=transactional,
    )
    histories = history_keeper(bootstrap, topics, definitions, events, labels, home, role)
    answering = InferenceWorker(
        bootstrap, hop, topics, definitions, events, labels, router, control, histories, role,
        clock or SystemClock(),
    )  # fmt: skip
    try:
        with until_signal(stop or threading.Event()) as stopped:
            answering.run(stopped)
    finally:
        histories.close()
        hop.close()
        control.close()
