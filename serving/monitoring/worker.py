"""The monitor's process: follows features, predictions, labels and commands, closes steps.

A step closes when the watermark has passed its end, or when an ``advance`` command reaches it and
everything that stood in the inputs at the command's arrival has been read. Closing goes so:

1. follow the models topic; count the window anew where another version is live, and where it is one
   of another definition, read that one's features first, as far back as a window reaches;
2. judge, and produce figures, alerts and dead labels; wait until the broker has them;
3. append ``retrain`` where it is due;
4. save the state;
5. commit the positions, an ``advance`` command's among them.

After a crash the state and the log after it give the same again; what stands in the output topics
already is not written twice.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kafka.protocol.consumer.offsets import IsolationLevel

from features.definition import Definition
from serving.alerting.declared import Alerting
from serving.monitoring.command_queue import CommandQueue
from serving.monitoring.cutover import LiveVersion
from serving.monitoring.declared import Declared
from serving.monitoring.inputs import MonitorInputs
from serving.monitoring.live_model import LiveModels
from serving.monitoring.outbox import Outbox
from serving.monitoring.publishing import Publisher
from serving.monitoring.snapshot import MonitorSnapshots, Saved, folder_lock
from serving.spec import Monitor
from streams.collector import rare_collections
from streams.positions import PositionReader
from streams.stream import EventStream, LabelStream
from streams.topics import Topics
from streams.watchdog import beat, suspended
from streams.wire import Advance, Retrain
from training.networks.tasks import Binary, Task
from training.spec import Training

IDLE_POLL_S = 0.01
_BINARY = Binary()
COMMIT_EVERY_S = 1.0
SAVE_EVERY_S = 2.0
SAVE_RATIO = 20.0
"""A save is followed by so many times its own time without one, unless something happens."""


@dataclass
class _Pending:
    """An advance command that waits until its targets (topic → partition → offset) are read."""

    command: Advance
    targets: dict[str, dict[int, int]]


class MonitorWorker:
    """One monitor. Only one may run per pipeline: it reads all partitions, by ``assign``.

    Raises:
        BrokerError: the broker can't be reached, or refuses.
        ModelError: the live model's package is missing or damaged.
        ConfigurationError: another monitor runs on the same folder.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        definitions: Sequence[Definition],
        events: EventStream,
        labels: LabelStream,
        monitors: Sequence[Monitor],
        training: Training,
        step: str,
        home: Path,
        task: Task = _BINARY,
        alerting: Alerting | None = None,
    ) -> None:
        alerting = Alerting() if alerting is None else alerting
        self._topics, self._partitions = topics, events.partitions
        self._declared = Declared(
            definitions, events, labels, monitors, training, step, task, alerting
        )
        self.state = self._declared.empty_state(definitions[0])  # refuses windows that don't fit
        self._lock = folder_lock(home / "monitor")
        self._snapshots = MonitorSnapshots(
            home / "monitor",
            bootstrap,
            (topics.predictions, topics.labels),
            self._declared.maker,
        )
        self._pending: _Pending | None = None
        try:
            self._open(bootstrap)
        except BaseException:
            self._lock.close()
            raise

    def _open(self, bootstrap: str) -> None:
        topics, declared = self._topics, self._declared
        self._models = LiveModels(bootstrap, topics.models)
        loaded = self._snapshots.load(lambda saved: declared.state_of(saved, bootstrap, topics))
        saved = Saved(features=self._models.definition or declared.definitions[0].version)
        if loaded is not None:
            self.state, saved = loaded
        else:
            self.state = declared.empty_state(declared.definition(saved.features))
        self._commands = CommandQueue(bootstrap, topics.commands, saved.commands_done)
        self._outbox = Outbox(bootstrap, topics, saved.written)
        self.inputs = MonitorInputs(bootstrap, topics, declared, self.state, self._outbox)
        self.inputs.follow(declared.definition(saved.features), saved.positions, saved.newest)
        self._publisher = Publisher(
            bootstrap, topics, self._outbox, self._commands, declared.alerting.dashboard
        )
        self._ends = PositionReader(bootstrap)
        self._live = LiveVersion(self._models, declared, self.inputs, self.state)
        self._committed: object = None
        self._committed_at_s = self._saved_at_s = time.monotonic()
        self._save_after_s = SAVE_EVERY_S

    # The loop

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; then save the state and commit."""
        while not stop.is_set():
            beat()
            self.turn()
        self._save()
        self._commit()

    def turn(self) -> None:
        """Read what has come, close what is due, commit where reading stands."""
        idle = not self.inputs.read()
        self._commands.poll(IDLE_POLL_S if idle and not self._commands else 0.0)
        self._obey()
        watermark_ms = self.inputs.watermark_ms()
        if watermark_ms is not None:
            self._close_until(watermark_ms)
        self._commit_when_due()

    def close(self) -> None:
        """Let go of all connections, and of the folder."""
        self.inputs.close()
        self._models.close()
        self._commands.close()
        self._ends.close()
        self._lock.close()

    # Commands

    def _obey(self) -> None:
        while self._commands and self._pending is None:
            command = self._commands.first()
            if isinstance(command, Advance):
                self._pending = _Pending(command, self._input_ends())
            else:
                if isinstance(command, Retrain):
                    self.state.note_training(command.cutoff_ms)
                self._commands.finish()
        if self._pending is not None and self.inputs.has_read(self._pending.targets):
            models_end = self._pending.targets[self._topics.models][0]
            if self._close_until(self._pending.command.event_time_ms, models_end):
                self._pending = None
                self._commands.finish()

    def _input_ends(self) -> dict[str, dict[int, int]]:
        """Return where the inputs end, what is in open transactions included."""
        topics = dict.fromkeys(self.inputs.names, self._partitions)
        return self._ends.ends({**topics, self._topics.models: 1}, IsolationLevel.READ_UNCOMMITTED)

    # Closing

    def _close_until(self, time_ms: int, models_end: int | None = None) -> bool:
        """Close the steps that end by ``time_ms``, with the model that is live by ``models_end``
        (an offset of the models topic; None for its end now).

        Returns False where the features of another definition have to be read before.
        """
        while (end_ms := self.state.next_end_ms()) is not None and end_ms <= time_ms:
            if models_end is None:
                models_end = self._ends.ends({self._topics.models: 1})[self._topics.models][0]
            with suspended():  # it may read the features of whole windows again
                is_live = self._live.use(models_end)
            if not is_live:
                if self._pending is not None:  # it waits for the other features too
                    topic = self.inputs.topics.features
                    self._pending.targets |= {topic: self._input_ends()[topic]}
                return False
            closing = self.state.close(self._models.live)
            self._publisher.publish(closing, self.inputs.positions_at(end_ms))
            eventful = bool(closing.told or closing.decision.reason)
            if eventful or time.monotonic() - self._saved_at_s > self._save_after_s:
                self._save()
        return True

    # What lasts

    def _save(self) -> None:
        began_s = time.monotonic()
        self._outbox.flush()
        self._snapshots.save(
            self.state,
            Saved(
                positions=self.inputs.positions(),
                newest=self.inputs.newest(),
                commands_done=self._commands.done,
                written=self._outbox.positions(),
                features=self.inputs.topics.definition,
                features_made=self.inputs.features_made,
            ),
        )
        self._saved_at_s = time.monotonic()
        self._save_after_s = max(SAVE_EVERY_S, SAVE_RATIO * (self._saved_at_s - began_s))

    def _commit_when_due(self) -> None:
        if self.inputs.at_end() or time.monotonic() - self._committed_at_s > COMMIT_EVERY_S:
            self._commit()

    def _commit(self) -> None:
        # Commands behind the one at hand are in no position of their own: all or nothing.
        position = self._commands.position
        commands = {} if position is None else {self._topics.commands: position}
        now = (self.inputs.positions(), commands)
        if now == self._committed:
            return
        self._outbox.flush()
        self.inputs.commit(commands)
        self._committed, self._committed_at_s = now, time.monotonic()


def run_monitor(
    bootstrap: str,
    topics: Topics,
    definitions: Sequence[Definition],
    events: EventStream,
    labels: LabelStream,
    monitors: Sequence[Monitor],
    training: Training,
    step: str,
    home: Path,
    task: Task = _BINARY,
    alerting: Alerting | None = None,
) -> None:
    """Run the monitor until SIGTERM or SIGINT. Errors as :class:`MonitorWorker`."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    worker = MonitorWorker(
        bootstrap, topics, definitions, events, labels, monitors, training, step, home, task,
        alerting,
    )  # fmt: skip
    try:
        with rare_collections():
            worker.run(stop)
    finally:
        worker.close()
