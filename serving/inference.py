"""Streaming inference: every feature record is answered exactly once, by the version then live.

One loop serves two roles that differ in what answers and where to: ``inference`` answers with the
live version, ``shadow`` with every version in shadow, as a group of its own that costs the live
path nothing.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import structlog

from features.definition import Definition
from features.records import FeatureCodec
from serving.answers import AnswerCodec, Questions, checked_scores, not_answered, questions
from serving.router import Answering, Loader, Role, Router, packaged_models
from serving.stretches import Outgoing, Position, Taken
from serving.transaction import TransactionalHop
from streams.clock import Clock, SystemClock
from streams.control import ControlFollower, ControlWriter, decode_model_events
from streams.stream import EventStream
from streams.topics import Topics
from training.spec import Model

_LOG = structlog.get_logger(__name__)


class InferenceWorker:
    """Consume → decode → predict → produce, one transaction per micro-batch.

    Args:
        hop: the connection to the features topic, see :class:`TransactionalHop`.
        topics: the pipeline's topics.
        definition, events: what the feature records look like.
        router: which versions answer.
        control: the control log; caught up with before the first batch.
        writer: where activations are announced.
        clock: for ``times.predicted_ms``, the one value that is not a function of the log.
    """

    def __init__(
        self,
        hop: TransactionalHop,
        topics: Topics,
        definition: Definition,
        events: EventStream,
        router: Router,
        control: ControlFollower,
        writer: ControlWriter,
        role: Role,
        clock: Clock,
    ) -> None:
        self._hop, self._topics, self._router = hop, topics, router
        self._control, self._writer, self._clock = control, writer, clock
        self._features = FeatureCodec(definition, events)
        self._answers = AnswerCodec(
            features_topic=topics.features,
            topic=topics.predictions if role == "inference" else topics.shadow,
            source=f"/{topics.name}/{role}",
            definition=definition.version,
        )

    def run(self, stop: threading.Event) -> None:
        """Answer until ``stop`` is set; the batch at hand is finished first.

        Raises:
            BrokerError: the broker can't be reached or refuses repeatedly.
            StateError: the features topic holds what no feature worker of this definition wrote.
        """
        self._router.follow(decode_model_events(self._control.catch_up()))
        while not stop.is_set():
            taken = self._hop.take()
            self._router.follow(decode_model_events(self._control.poll()))
            self._announce()
            if taken.reached:
                self._answer(taken)

    def _announce(self) -> None:
        # Every batch is committed before the next is taken, so what the hop holds as positions are
        # exactly the first offsets which the versions that answer now will answer.
        positions = {p: at.next_offset for p, at in self._hop.positions.items()}
        for event in self._router.to_announce(positions):
            self._writer.append_model_event(self._topics.models, event)
            self._router.follow([event])
            _LOG.info("answering", version=event.version, stage=event.stage, since=event.positions)

    def _answer(self, taken: Taken) -> None:
        answered = {p: at.answered for p, at in self._hop.positions.items()}
        asked: list[Questions] = []
        for stretch in taken.stretches:
            log = stretch.log
            every = questions(self._features.decode(log), log.offsets, stretch.headers)
            sources, before = every.rows.source_offsets, answered[log.partition]
            asked.append(every.select(not_answered(sources, before)))
            answered[log.partition] = max(before, int(sources.max()))
        reached = {p: Position(offset, answered[p]) for p, offset in taken.reached.items()}
        self._hop.commit(self._predictions(asked), reached)

    def _predictions(self, asked: list[Questions]) -> list[Outgoing]:
        """Return the answers of all that answer; a model that fails must not stop the others."""
        while True:
            made: list[Outgoing] = []
            for chosen in self._router.answering:
                try:
                    made += [self._by(chosen, due) for due in _due(asked, chosen)]
                except Exception as error:
                    self._router.set_aside(chosen.version, error)
                    self._announce()
                    break  # the whole batch anew: what is announced holds for all of it
            else:
                return made

    def _by(self, chosen: Answering, due: Questions) -> Outgoing:
        scores = checked_scores(chosen.predict, due.rows)
        now_ms = self._clock.now_ms()
        return self._answers.encode(due, scores, chosen.version, chosen.stage, now_ms)


def _due(asked: list[Questions], chosen: Answering) -> Iterator[Questions]:
    """Yield what the version answers of each partition, where that is anything."""
    for partition in asked:
        first = chosen.since.get(str(partition.rows.partition), 0)
        due = partition.select(np.asarray(partition.offsets >= first))
        if len(due):
            yield due


def run_inference(
    bootstrap: str,
    topics: Topics,
    definition: Definition,
    events: EventStream,
    model: Model,
    home: Path,  # noqa: ARG001 - packages are named by whole URIs
    role: Role,
    worker: str = "inference-0",
    max_batch: int = 10_000,
    *,
    load: Loader | None = None,
    transactional: bool = True,
    clock: Clock | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Run a worker of ``role`` until SIGTERM or SIGINT (or ``stop``), then end cleanly.

    Args:
        home: the folder of the pipeline's state.
        worker: the worker's lasting name, one per process of the role.
        max_batch: records per transaction at most.
        load: loads a registered version; model packages by default.
        transactional: for tests only, see :class:`TransactionalHop`.

    Raises:
        BrokerError: the broker can't be reached or refuses repeatedly.
        StateError: the features topic holds what no feature worker of this definition wrote.
    """
    router = Router(role, worker, model.prior, load or packaged_models())
    control, writer = ControlFollower(bootstrap, topics.models), ControlWriter(bootstrap)
    hop = TransactionalHop(
        bootstrap,
        topics.features,
        topics.group(role),
        worker,
        max_batch=max_batch,
        transactional=transactional,
    )
    answering = InferenceWorker(
        hop, topics, definition, events, router, control, writer, role, clock or SystemClock()
    )
    try:
        with _until_signal(stop or threading.Event()) as stopped:
            answering.run(stopped)
    finally:
        hop.close()
        control.close()


@contextmanager
def _until_signal(stop: threading.Event) -> Iterator[threading.Event]:
    """Set ``stop`` at SIGTERM and SIGINT; in the main thread only, where signals arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
