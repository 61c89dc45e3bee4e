"""The process that writes outcomes: predictions, in shadow and over HTTP too, with their labels.

It reads all partitions of predictions, shadow, requests and labels, and of the features where a
definition declares groups. It goes round so:

1. read what has come; what is complete by it goes into a transaction as an outcome;
2. now and then commit the transaction, and with it where reading stands;
3. now and then save the state, which is then that of the committed positions.

At start the state is that of a snapshot and of the log between the snapshot's positions and the
committed ones: what is complete within these is in the outcomes topic already, and is not written
again. So each prediction has one outcome, whenever the process dies.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import structlog
from confluent_kafka import KafkaException

from serving.feedback.account import Account
from serving.feedback.columns import Matched
from serving.feedback.joining import Joining
from serving.feedback.publishing import Publisher
from serving.feedback.reading import TopicsReader
from serving.feedback.records import AnswerReader, GroupReader, OutcomeWriter, extra_numbers
from serving.feedback.saved import OutcomeSnapshots, Saved
from serving.inference.stretches import Place
from serving.monitoring.label_records import LabelCodec
from serving.monitoring.snapshot import folder_lock
from serving.monitoring.watermark import Watermark
from serving.pipeline import Pipeline
from serving.stopping import until_signal
from streams.batch import LogBatch
from streams.durations import seconds
from streams.errors import BrokerError
from streams.replay import read_ranges
from streams.settings import Settings

IDLE_POLL_S = 0.05
COMMIT_EVERY_S = 0.1
COMMIT_RECORDS = 20_000
SAVE_RECORDS = 200_000
"""A state is saved after so many records, or twice as many as it remembers events."""
MAX_FAILURES = 20

_LOG = structlog.get_logger(__name__)


class OutcomesWorker:
    """One worker. Only one may run per pipeline: a second one fences the first.

    Raises:
        BrokerError: the broker can't be reached, or refuses.
        ConfigurationError: another one runs on the same folder.
    """

    def __init__(self, bootstrap: str, pipeline: Pipeline, home: Path) -> None:
        topics = pipeline.topics
        self._bootstrap, self._pipeline, self._topics = bootstrap, pipeline, topics
        self._within_ms = seconds(pipeline.labels_within) * 1000
        fields = dict.fromkeys(g for d in pipeline.definitions for g in d.groups)
        self._fields = {field: number for number, field in enumerate(fields)}
        answers = AnswerReader(pipeline.name, pipeline.model.task)
        self._answers = {
            topics.predictions: answers.predictions,
            topics.shadow: answers.predictions,
            topics.requests: answers.requests,
        }
        self._labels = LabelCodec(pipeline.labels, pipeline.model.task)
        self._groups = {
            pipeline.topics_of(d).features: (GroupReader(d.groups), self._numbers(d.groups))
            for d in pipeline.definitions
            if d.groups
        }
        self._writer = OutcomeWriter(
            pipeline.name, topics.outcomes, pipeline.model.task, list(fields)
        )
        names = (*self._answers, topics.labels, *self._groups)
        self._places = [(name, p) for name in names for p in range(pipeline.events.partitions)]
        self._lock = folder_lock(home / "outcomes")
        store = Settings().snapshots_of(pipeline.name, home)
        folder = store / "outcomes" if isinstance(store, Path) else f"{store}/outcomes"
        self._snapshots = OutcomeSnapshots(folder, bootstrap, pipeline)
        try:
            self._open()
        except BaseException:
            self._lock.close()
            raise

    # Beginning

    def _open(self) -> None:
        self._publisher = Publisher(self._bootstrap, self._topics.group("outcomes"))
        self._reader = TopicsReader(self._bootstrap, self._topics.group("outcomes"))
        # Nobody else can commit from here on, so these positions are final.
        committed = {place: at.offset for place, at in self._reader.committed(self._places).items()}
        saved, self.joining = self._snapshots.load(committed, self._new_joining)
        self._codes = {text: code for code, text in enumerate(saved.texts)}
        self._clock = Watermark(
            (self._topics.predictions, self._topics.labels),
            self._pipeline.events.partitions,
            0,
            self._within_ms,
        )
        self._clock.load(saved.newest)
        self._clock_ms: int | None = None
        positions = {place: saved.position(place) for place in self._places}
        self._rebuild(positions, committed)
        self._begun = False
        self._since_commit = self._since_save = 0
        self._committed = {place: committed.get(place, 0) for place in self._places}
        self._reader.start(self._committed)
        self._committed_at_s = time.monotonic()

    def _new_joining(self) -> Joining:
        needs = {d.version: self._numbers(d.groups) for d in self._pipeline.definitions}
        extra = extra_numbers(self._pipeline.model.task)
        return Joining(self._within_ms, len(self._fields), needs, extra)

    def _rebuild(self, positions: Mapping[Place, int], committed: Mapping[Place, int]) -> None:
        """Bring the state from the snapshot's positions to the committed ones."""
        for place, end in committed.items():
            topic, partition = place
            for batch in read_ranges(self._bootstrap, topic, {partition: (positions[place], end)}):
                self._take(batch)
                self.joining.take()  # written already

    def _numbers(self, fields: tuple[str, ...]) -> list[int]:
        return [self._fields[field] for field in fields]

    # The loop

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; then commit and save the state."""
        failures = 0
        while not stop.is_set():
            try:
                self.turn()
                failures = 0
            except (KafkaException, BufferError) as error:
                failures += 1
                _LOG.warning("outcomes given up, they are made again", error=str(error))
                if failures > MAX_FAILURES:
                    raise BrokerError(
                        f"{self._topics.outcomes}: {failures} transactions failed one after the "
                        f"other, the last with {error}"
                    ) from error
                self._let_go()
                self._open()
        self.finish()

    def turn(self) -> None:
        """Read what has come, write what is complete, commit and save where it is time."""
        batches = self._reader.poll(IDLE_POLL_S)
        for batch in batches:
            self._take(batch)
            self._since_commit += len(batch)
        self._publish(self.joining.take())
        if self._is_due():
            self._commit()

    def finish(self) -> None:
        """Commit and save."""
        self._commit()
        self._save()

    def close(self) -> None:
        """Let go of all connections, and of the folder."""
        self._let_go()
        self._lock.close()

    def account(self) -> Account:
        """Return what it has come to."""
        joining = self.joining
        return Account(joining.counts, len(joining), joining.events, joining.nbytes, self._clock_ms)

    def _let_go(self) -> None:
        self._publisher.close()
        self._reader.close()

    # What is read

    def _take(self, batch: LogBatch) -> None:
        if batch.topic in self._answers:
            answered = self._answers[batch.topic](batch)
            self.joining.add_answers(answered)
            if batch.topic == self._topics.predictions:
                self._clock.note(batch.topic, batch.partition, answered.rows["event_time_ms"])
        elif batch.topic == self._topics.labels:
            rows, dead = self._labels.decode(batch)
            self.joining.counts.unusable += len(dead)
            self.joining.add_labels(
                rows.event_ids, rows.labels, rows.times_ms, batch.partition, rows.offsets
            )
            self._clock.note(batch.topic, batch.partition, rows.times_ms)
        else:
            reader, fields = self._groups[batch.topic]
            event_ids, columns = reader.decode(batch)
            self.joining.add_groups(event_ids, fields, self._coded(columns))

    def _coded(self, columns: list[list[str]]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Return the codes (n, fields) of texts."""
        known = self._codes
        for texts in columns:
            for text in dict.fromkeys(texts):
                known.setdefault(text, len(known))
        codes = [list(map(known.__getitem__, texts)) for texts in columns]
        return np.array(codes, np.int64).reshape(len(columns), -1).T

    # What is written

    def _publish(self, matched: Matched) -> None:
        if not len(matched):
            return
        if not self._begun:
            self._publisher.begin()
            self._begun = True
        self._publisher.produce(self._writer.outgoing(matched, list(self._codes)))

    def _is_due(self) -> bool:
        if self._since_commit >= COMMIT_RECORDS:
            return True
        return time.monotonic() - self._committed_at_s >= COMMIT_EVERY_S

    def _commit(self) -> None:
        positions = dict(self._reader.positions)
        changed = {p: at for p, at in positions.items() if at != self._committed.get(p)}
        self._committed_at_s = time.monotonic()
        if not changed:
            return
        self._expire()
        if not self._begun:
            self._publisher.begin()
        # The note stands beside the labels' first partition, whatever has changed.
        noted = (self._topics.labels, 0)
        note = self.account().note()
        self._publisher.commit(
            self._reader.client, {**changed, noted: positions[noted]}, {noted: note}
        )
        self._begun = False
        self._committed = positions
        self._since_save += self._since_commit
        self._since_commit = 0
        if self._since_save >= max(SAVE_RECORDS, 2 * self.joining.events):
            self._save()

    def _expire(self) -> None:
        ended: dict[str, set[int]] = {topic: set() for topic, _ in self._places}
        for topic, partition in self._reader.ended:
            ended[topic].add(partition)
        clock_ms = self._clock.value_ms(ended)
        if clock_ms is not None and (self._clock_ms is None or clock_ms > self._clock_ms):
            self._clock_ms = clock_ms
            self.joining.expire(clock_ms)

    def _save(self) -> None:
        """Save the state, which must be that of the committed positions."""
        saved = Saved.of(self._committed, self._clock.to_json(), list(self._codes))
        self._snapshots.save(self.joining, saved)
        self._since_save = 0


def run_outcomes(bootstrap: str, pipeline: Pipeline, home: Path) -> None:
    """Write outcomes until SIGTERM or SIGINT. Errors as :class:`OutcomesWorker`."""
    with until_signal(threading.Event()) as stop:
        worker = OutcomesWorker(bootstrap, pipeline, home)
        try:
            with _rare_collections():
                worker.run(stop)
        finally:
            worker.close()


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for cycles seldom: a batch makes many objects and no cycle."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
