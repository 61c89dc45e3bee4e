"""The trainer: answers the Retrain commands of the log with model versions.

For each command, in this order: (1) skip it where the control log has an answer, (2) run the
training, in a thread, while this one goes on polling so that the group keeps its member, (3) append
the answer (:mod:`training.retraining.answering`), (4) commit the command's offset. It trains on
the features of the definition that was ordered last (:mod:`streams.cutover`) by then. A crash
before (3) repeats the training, which goes on from its checkpoint; a crash within (3) completes the
answer; a crash before (4) skips. Between commands it looks at the clock, where the pipeline
declares a schedule by it (:mod:`training.retraining.triggers`).
"""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from features.definition import Definition
from streams.clock import Clock, SystemClock
from streams.closing import close_client
from streams.control import decode_command
from streams.errors import BrokerError, KappaError
from streams.kafka_client import consumer
from streams.positions import PositionReader
from streams.stream import EventStream, LabelStream
from streams.topics import Topics
from streams.watchdog import beat, suspended
from streams.wire import Advance, Positions, Retrain, Retried
from training.loop.launch import Check, WarmRanks
from training.retraining.answering import Answers
from training.retraining.commanded import job_of
from training.retraining.job import Progress, TrainedModel, TrainingJob, run_training
from training.retraining.triggers import WallSchedule
from training.spec import Model, Training
from training.tracking.following import RolloutWatch
from training.tracking.runs import Tracker, default_folder

POLL_S = 0.1
# It is polled all the time, so a member that is silent for so long is gone; until then nobody else
# trains, and a group of which a member began to join and did not end waits for it.
SESSION_TIMEOUT_MS = 10_000
_LOG = structlog.get_logger(role="trainer")

Train = Callable[[TrainingJob, Progress, Check], TrainedModel]


class _StoppedError(Exception):
    """Raised inside a training whose worker has to end, or lost its partition."""


@dataclass
class Trainer:
    """The worker. ``job`` holds all but the command's id and cut-off.

    ``definitions`` are what the pipeline declares; that of ``job`` is used until a cut-over.
    ``clock`` is what the schedule by wall time goes by. ``shadow_first``: a new version goes into
    shadow, from where the rollout's worker carries it on, and not live at once.
    """

    job: TrainingJob
    tracker: Tracker
    train: Train = run_training
    definitions: Sequence[Definition] = ()
    clock: Clock = field(default_factory=SystemClock)
    shadow_first: bool = False

    def run(self, stop: threading.Event) -> None:
        """Answer commands until ``stop`` is set; what is then in training stays unanswered.

        Raises:
            BrokerError: Kafka fails for good; the supervisor starts the worker again.
        """
        bootstrap, topics = self.job.bootstrap, self.job.topics
        self._stop, self._revoked = stop, False
        since = self._features_ends if self.shadow_first else None
        self._answers = Answers(bootstrap, topics.models, self.tracker, since)
        self._schedule = self._wall_schedule()
        # Polled all the time, so a member that hangs is one that died.
        self._commands = consumer(
            bootstrap, group_id=topics.group("trainer"), session_timeout_ms=SESSION_TIMEOUT_MS
        )
        self._commands.subscribe(
            [topics.commands], on_assign=self._on_assign, on_revoke=self._on_revoke
        )
        try:
            while not stop.is_set():
                beat()
                message = self._commands.poll(POLL_S)
                if message is not None:
                    self._take(message)
                if self._schedule is not None and self._commands.assignment():
                    self._schedule.ask_when_due()
        finally:
            close_client(self._commands, "consumer of commands")
            self._answers.close()
            if self._schedule is not None:
                self._schedule.close()

    def _features_ends(self, definition: int) -> Positions:
        topic = replace(self.job.topics, definition=definition).features
        reader = PositionReader(self.job.bootstrap)
        try:
            ends = reader.ends({topic: self.job.events.partitions})[topic]
        finally:
            reader.close()
        return {str(partition): end for partition, end in sorted(ends.items())}

    def _wall_schedule(self) -> WallSchedule | None:
        every = self.job.training.every_wall
        if every is None:
            return None
        partitions = self.job.events.partitions
        return WallSchedule(self.job.bootstrap, self.job.topics, partitions, every, self.clock)

    def _take(self, message: Message[bytes, bytes]) -> None:
        error, offset, value = message.error(), message.offset(), message.value()
        if offset is None:
            return
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._commit(offset)  # beyond transaction markers, which no message shows
            elif error.fatal():
                raise BrokerError(f"following {self.job.topics.commands}: {error}")
            return
        try:
            command = decode_command(value or b"")
        except msgspec.MsgspecError as bad:
            _LOG.warning("a record that is no command is passed over", offset=offset, why=str(bad))
            self._commit(offset + 1)
            return
        match command:
            case Advance() | Retried():
                done = True
            case Retrain():
                done = self._answer(command)
        if done:
            self._commit(offset + 1)
        if isinstance(command, Retrain):
            # What was polled meanwhile comes again; nothing behind an unanswered command may be
            # committed.
            self._seek(offset + 1 if done else offset)

    def _answer(self, command: Retrain) -> bool:
        """Bring the answer to ``command`` into the log; return whether it is there."""
        if self._answers.stands(command):
            return True
        run = self.tracker.begin(command.command_id, {"kappa.reason": command.reason})
        try:
            job = job_of(command, self.job, self._answers.rollout, self.definitions)
            trained = self._train_while_polling(job)
        except _StoppedError:
            self.tracker.fail(run, "stopped before its end")
            return False
        except BrokerError:
            self.tracker.fail(run, "the broker failed")
            raise
        except KappaError as error:
            self._answers.refuse(command, run, str(error))
        except Exception as error:  # a defect in one training must not stop the next
            _LOG.exception("training failed", command=command.command_id)
            self._answers.refuse(command, run, f"{type(error).__name__}: {error}")
        else:
            with suspended():  # the comparison replays a stretch of the log
                self._answers.give(command, run, trained, job.training.compare)
        return True

    def _train_while_polling(self, job: TrainingJob) -> TrainedModel:
        """Run the training in a thread and keep the group membership alive meanwhile."""
        cancelled = threading.Event()

        def check() -> None:
            if cancelled.is_set():
                raise _StoppedError

        def progress(line: str) -> None:
            check()
            _LOG.info(line, command=job.command_id)

        self._revoked = False
        self._pause()
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="training") as thread:
                future = thread.submit(self.train, job, progress, check)
                try:
                    return self._poll_until_done(future, cancelled)
                finally:
                    cancelled.set()
        finally:
            self._commands.resume(self._commands.assignment())

    def _poll_until_done(
        self, future: Future[TrainedModel], cancelled: threading.Event
    ) -> TrainedModel:
        while True:
            beat()
            if self._stop.is_set() or self._revoked:
                cancelled.set()
            if wait([future], POLL_S).done:
                trained = future.result()
                if self._revoked:
                    raise _StoppedError  # another member answers
                return trained
            message = self._commands.poll(0)
            offset = None if message is None or message.error() else message.offset()
            if offset is not None:
                # A rebalance gave the partition back at its committed offset, and not paused.
                self._seek(offset)
                self._pause()

    def _pause(self) -> None:
        self._commands.pause(self._commands.assignment())

    def _seek(self, offset: int) -> None:
        with suppress(KafkaException):  # not assigned any more: the next member begins there
            self._commands.seek(TopicPartition(self.job.topics.commands, 0, offset))

    def _commit(self, offset: int) -> None:
        position = TopicPartition(self.job.topics.commands, 0, offset)
        try:
            self._commands.commit(offsets=[position], asynchronous=False)
        except KafkaException as error:
            # Another member has the partition now, and finds the answers in the control log.
            _LOG.warning("a command's offset was not committed", offset=offset, why=str(error))

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        if partitions:
            _LOG.info("following commands", topic=self.job.topics.commands)

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._revoked = bool(partitions)


def run_trainer(
    bootstrap: str,
    topics: Topics,
    definitions: Sequence[Definition],
    events: EventStream,
    labels: LabelStream,
    model: Model,
    training: Training,
    home: Path,
    ranks: int,
    tracking_uri: str | None,
    *,
    shadow_first: bool = False,
) -> None:
    """Run the trainer until SIGTERM or SIGINT; called in the process's main thread.

    ``definitions`` are all that the pipeline declares. ``home`` is its folder of state;
    ``tracking_uri`` MLflow's, None for its default. ``shadow_first`` is as in :class:`Trainer`.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    job = TrainingJob(
        bootstrap, topics, definitions[0], events, labels, model, training,
        cutoff_ms=0, home=home, command_id="", ranks=ranks,
    )  # fmt: skip
    tracker = Tracker(tracking_uri, default_folder(home), topics.name)
    try:
        with WarmRanks() as kept, RolloutWatch(bootstrap, topics.models, tracker.mirror):
            train = functools.partial(run_training, launch=tracker.observing(kept))
            Trainer(job, tracker, train, definitions, shadow_first=shadow_first).run(stop)
    finally:
        tracker.close()
