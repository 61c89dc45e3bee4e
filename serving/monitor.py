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

import gc
import hashlib
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import structlog
from kafka.protocol.consumer.offsets import IsolationLevel

from features.definition import Definition
from features.records import FeatureCodec
from serving.command_queue import CommandQueue
from serving.label_records import DUPLICATE_LABEL, LabelCodec, dead_letter
from serving.live_model import LiveModels
from serving.log_reader import LogReader
from serving.monitor_snapshot import MonitorSnapshots, Saved, folder_lock
from serving.monitor_state import MonitorState
from serving.outbox import Outbox
from serving.publishing import Publisher
from serving.spec import Monitor
from serving.watermark import Watermark
from streams.batch import LogBatch
from streams.durations import seconds
from streams.errors import ConfigurationError
from streams.positions import PositionReader
from streams.replay import offsets_at, read_ranges
from streams.snapshots import log_identity
from streams.stream import EventStream, LabelStream
from streams.topics import Topics
from streams.wire import Advance, Retrain
from training.reference import Reference
from training.spec import Training

IDLE_POLL_S = 0.01
COMMIT_EVERY_S = 1.0
SAVE_EVERY_S = 2.0
IDLE_STEPS = 2

_LOG = structlog.get_logger(role="monitor")


class _Answer(msgspec.Struct, gc=False):
    """What the monitor needs of a :class:`streams.wire.Prediction`."""

    event_id: str
    score: float
    model_version: int
    event_time_ms: int


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
    ) -> None:
        self._bootstrap, self._topics = bootstrap, topics
        self._definitions = {definition.version: definition for definition in definitions}
        self._first = definitions[0].version
        self._events, self._label_stream = events, labels
        self._step_ms, self._partitions = seconds(step) * 1000, events.partitions
        self._monitors, self._training = tuple(monitors), training
        self.state = self._empty_state(definitions[0])  # refuses windows that don't fit
        self._predictions = msgspec.json.Decoder(_Answer).decode
        self._labels = LabelCodec(labels)
        maker = repr((labels, tuple(monitors), step))
        self._lock = folder_lock(home / "monitor")
        self._snapshots = MonitorSnapshots(
            home / "monitor",
            bootstrap,
            (topics.predictions, topics.labels),
            hashlib.sha256(maker.encode()).hexdigest(),
        )
        self._pending: _Pending | None = None
        self._readers: dict[str, LogReader] = {}
        try:
            self._open(bootstrap)
        except BaseException:
            self._lock.close()
            raise

    def _open(self, bootstrap: str) -> None:
        self._models = LiveModels(bootstrap, self._topics.models)
        loaded = self._snapshots.load(self._state_of)
        saved = Saved(features=self._models.definition or self._first)
        if loaded is not None:
            self.state, saved = loaded
        else:
            self.state = self._empty_state(self._declared(saved.features))
        self._follow_features(saved.features, saved.positions, saved.newest)
        topics = self._topics
        self._commands = CommandQueue(bootstrap, topics.commands, saved.commands_done)
        self._outbox = Outbox(bootstrap, topics, saved.written)
        self._publisher = Publisher(bootstrap, topics, self._outbox, self._commands)
        self._ends = PositionReader(bootstrap)
        # Go on counting in the bins that the saved counts are in.
        reference = self._models.reference(self.state.counted_version)
        if reference is not None:
            self.state.use_reference(self.state.counted_version, reference)
        self._committed: object = None
        self._committed_at_s = self._saved_at_s = time.monotonic()

    # The features that are followed

    def _empty_state(self, definition: Definition) -> MonitorState:
        return MonitorState(
            self._monitors,
            self._training,
            definition.groups,
            self._step_ms,
            self._events.lateness_ms,
        )

    def _state_of(self, saved: Saved) -> MonitorState | None:
        """Return an empty state for what was saved; None where its features are others now."""
        definition = self._definitions.get(saved.features)
        if definition is None or saved.features_made != self._made(definition):
            return None
        return self._empty_state(definition)

    def _made(self, definition: Definition) -> str:
        topic = replace(self._topics, definition=definition.version).features
        content = definition.hash(self._events, self._label_stream)
        return f"{content} {log_identity(self._bootstrap, topic)}"

    def _declared(self, version: int) -> Definition:
        if version not in self._definitions:
            raise ConfigurationError(
                f"the features of definition v{version} are judged since a cut-over, and the "
                "monitor's pipeline file does not declare it: declare it, as features=(...), and "
                "start the monitor again"
            )
        return self._definitions[version]

    def _follow_features(
        self,
        version: int,
        positions: Mapping[str, Mapping[int, int]],
        newest: Sequence[Sequence[str | int]],
    ) -> None:
        """Read the features of a definition beside predictions and labels, from ``positions``."""
        definition = self._declared(version)
        self._topics = topics = replace(self._topics, definition=version)
        self._features = FeatureCodec(definition, self._events, self._label_stream)
        self._features_made = self._made(definition)
        self._inputs = (topics.features, topics.predictions, topics.labels)
        self._watermark = Watermark(
            self._inputs, self._partitions, self._events.lateness_ms, IDLE_STEPS * self._step_ms
        )
        self._watermark.load([at for at in newest if at[0] in self._inputs])
        before, group = self._readers, topics.group("monitor")
        self._readers = {
            topic: before[topic]
            if topic in before
            else LogReader(
                self._bootstrap, topic, group, self._partitions, positions.get(topic, {})
            )
            for topic in self._inputs
        }
        for topic in before.keys() - self._readers.keys():
            before[topic].close()
        self._take = {
            topics.features: self._take_features,
            topics.predictions: self._take_predictions,
            topics.labels: self._take_labels,
        }

    def _change_features(self, version: int, reference: Reference | None) -> None:
        """Go over to the features of another definition, those of open windows included."""
        definition = self._declared(version)
        from_ms = self.state.change_features(definition.groups)
        self.state.use_reference(self._models.live.version, reference)
        topic = replace(self._topics, definition=version).features
        # The first record of that time or later: all before it are older.
        start = offsets_at(self._bootstrap, topic, self._partitions, from_ms)
        self._follow_features(version, {topic: start}, self._watermark.to_json())
        _LOG.info("the features of another definition are judged", definition=version)
        if self._pending is not None:
            self._pending.targets |= {topic: self._input_ends()[topic]}

    # The loop

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; then save the state and commit."""
        while not stop.is_set():
            self.turn()
        self._save()
        self._commit()

    def turn(self) -> None:
        """Read what has come, close what is due, commit where reading stands."""
        idle = True
        for topic, reader in self._readers.items():
            for batch in reader.poll():
                self._take[topic](batch)
                idle = False
        self._commands.poll(IDLE_POLL_S if idle and not self._commands else 0.0)
        self._obey()
        watermark_ms = self._watermark.value_ms({t: r.ended for t, r in self._readers.items()})
        if watermark_ms is not None:
            self._close_until(watermark_ms)
        self._commit_when_due()

    def close(self) -> None:
        """Let go of all connections, and of the folder."""
        for reader in self._readers.values():
            reader.close()
        self._models.close()
        self._commands.close()
        self._ends.close()
        self._lock.close()

    # Inputs

    def _take_features(self, batch: LogBatch) -> None:
        rows = self._features.decode(batch)
        self.state.add_features(rows, batch.offsets)
        self._watermark.note(batch.topic, batch.partition, rows.event_times_ms)

    def _take_predictions(self, batch: LogBatch) -> None:
        decode = self._predictions
        answers = [decode(value) for value in batch.values if value is not None]
        times = np.array([a.event_time_ms for a in answers], dtype=np.int64)
        self.state.add_predictions(
            [a.event_id for a in answers],
            np.array([a.score for a in answers], dtype=np.float64),
            np.array([a.model_version for a in answers], dtype=np.int64),
            times,
        )
        self._watermark.note(batch.topic, batch.partition, times)

    def _take_labels(self, batch: LogBatch) -> None:
        rows, dead = self._labels.decode(batch)
        duplicates = self.state.add_labels(rows, batch.partition)
        for i in np.flatnonzero(duplicates).tolist():
            reason = f"event {rows.event_ids[i]!r} has a label already; the first one counts"
            dead.append(dead_letter(batch, int(rows.rows[i]), DUPLICATE_LABEL, reason))
        for letter in dead:
            self._outbox.dead_label(letter)
        self._watermark.note(batch.topic, batch.partition, rows.times_ms)

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
        if self._pending is not None and self._has_read(self._pending.targets):
            models_end = self._pending.targets[self._topics.models][0]
            if self._close_until(self._pending.command.event_time_ms, models_end):
                self._pending = None
                self._commands.finish()

    def _has_read(self, targets: dict[str, dict[int, int]]) -> bool:
        return all(
            self._readers[topic].positions[partition] >= end
            for topic in self._inputs
            for partition, end in targets[topic].items()
        )

    def _input_ends(self) -> dict[str, dict[int, int]]:
        """Return where the inputs end, what is in open transactions included."""
        topics = dict.fromkeys(self._inputs, self._partitions)
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
            if not self._use_live(models_end):
                return False
            closing = self.state.close(self._models.live)
            self._publisher.publish(closing, self._positions())
            eventful = bool(closing.begun or closing.decision.reason)
            if eventful or time.monotonic() - self._saved_at_s > SAVE_EVERY_S:
                self._save()
        return True

    def _use_live(self, models_end: int) -> bool:
        """Judge by the version that is live by ``models_end``, and count in its bins.

        Returns False where it is one of another definition, whose features have to be read first.
        """
        reference = self._models.follow(models_end)
        definition, version = self._models.definition, self._models.live.version
        if definition not in (None, self._topics.definition):
            self._change_features(definition, reference)
            return False
        if reference is not None and self.state.counted_version != version:
            first, positions = self.state.recount_from(), self._positions()[self._topics.features]
            ranges = {p: (offset, positions[p]) for p, offset in first.items()}
            batches = read_ranges(self._bootstrap, self._topics.features, ranges)
            self.state.recount(version, reference, map(self._features.decode, batches))
        return True

    # What lasts

    def _positions(self) -> dict[str, dict[int, int]]:
        return {topic: dict(reader.positions) for topic, reader in self._readers.items()}

    def _save(self) -> None:
        self._outbox.flush()
        self._snapshots.save(
            self.state,
            Saved(
                positions=self._positions(),
                newest=self._watermark.to_json(),
                commands_done=self._commands.done,
                written=self._outbox.positions(),
                features=self._topics.definition,
                features_made=self._features_made,
            ),
        )
        self._saved_at_s = time.monotonic()

    def _commit_when_due(self) -> None:
        at_end = all(len(r.ended) == self._partitions for r in self._readers.values())
        if at_end or time.monotonic() - self._committed_at_s > COMMIT_EVERY_S:
            self._commit()

    def _commit(self) -> None:
        # Commands behind the one at hand are in no position of their own: all or nothing.
        position = self._commands.position
        commands = {} if position is None else {self._topics.commands: position}
        now = (self._positions(), commands)
        if now == self._committed:
            return
        self._outbox.flush()
        first, *others = self._readers.values()
        first.commit(commands)
        for reader in others:
            reader.commit({})
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
) -> None:
    """Run the monitor until SIGTERM or SIGINT. Errors as :class:`MonitorWorker`."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    worker = MonitorWorker(
        bootstrap, topics, definitions, events, labels, monitors, training, step, home
    )
    try:
        with _rare_collections():
            worker.run(stop)
    finally:
        worker.close()


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for cycles seldom: a batch makes many objects and none; it cost a third of the time."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
