"""The process that writes outcomes: predictions, in shadow and over HTTP too, with their labels.

It reads all partitions of predictions, shadow, requests and labels, and of the features where a
definition declares groups. It goes round so:

1. read what has come; what is complete by it goes into a transaction as an outcome;
2. now and then commit the transaction, and with it where reading stands;
3. now and then save the state, which is then that of the committed positions.

At start the state is that of a snapshot and of the log between the snapshot's positions and the
committed ones: what is complete within these is in the outcomes topic already, and is not written
again. So each prediction has one outcome, whenever the process dies. Where the committed positions
are lost (a broker forgets those of a group that has been idle for days), the outcomes topic says
what is written: see :meth:`OutcomesWorker._recover`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import structlog
from confluent_kafka import KafkaException

from serving.feedback.columns import Matched
from serving.feedback.publishing import Publisher
from serving.feedback.reading import TopicsReader
from serving.feedback.records import OutcomeWriter
from serving.feedback.saved import OutcomeSnapshots
from serving.feedback.state import OutcomeState
from serving.feedback.written import WrittenOutcomes
from serving.health.passing import note_arrival, now_ms
from serving.inference.stretches import Place
from serving.monitoring.snapshot import folder_lock
from serving.pipeline import Pipeline
from serving.stopping import until_signal
from streams import hops, tracing
from streams.collector import rare_collections
from streams.errors import BrokerError
from streams.positions import PositionReader
from streams.settings import Settings
from streams.watchdog import beat, suspended

IDLE_POLL_S = 0.05
COMMIT_EVERY_S = 0.1
COMMIT_RECORDS = 20_000
COMMIT_IDLE_EVERY_S = 3600.0
"""Positions that do not move are committed so often, or the broker would forget them."""
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

    def __init__(
        self, bootstrap: str, pipeline: Pipeline, home: Path, save_records: int = SAVE_RECORDS
    ) -> None:
        topics = pipeline.topics
        self._bootstrap, self._pipeline, self._topics = bootstrap, pipeline, topics
        self._save_records = save_records
        self.state = OutcomeState(pipeline)
        self._writer = OutcomeWriter(
            pipeline.name, topics.outcomes, pipeline.model.task, self.state.fields
        )
        self._places: list[Place] = [
            (topic, p) for topic in self.state.topics for p in range(pipeline.events.partitions)
        ]
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
        self._begun = False
        self._since_commit = self._since_save = 0
        committed = self._publisher.committed(self._places)
        written = WrittenOutcomes.read(self._bootstrap, self._pipeline) if not committed else None
        if written:
            committed = self._recover(written)
        else:
            self.state = OutcomeState(self._pipeline)
            positions = self._snapshots.load(committed, self.state)
            for _ in self._fold(positions, committed):
                pass  # written already
        self._committed = {place: committed.get(place, 0) for place in self._places}
        self._reader = TopicsReader(self._bootstrap, self._committed, lead_ms=self._lead_ms)
        self._committed_at_s = time.monotonic()

    @property
    def _lead_ms(self) -> int:
        """How far an input may be ahead of the others, while these have more: by that much more
        than ``labels_within`` is held in memory."""
        return self.state.within_ms // 4

    def _fold(self, first: Mapping[Place, int], end: Mapping[Place, int]) -> Iterator[Matched]:
        """Bring the state from some positions to others; yield what is complete by the way."""
        begun = {place: first.get(place, 0) for place in end}
        reader = TopicsReader(self._bootstrap, begun, dict(end), self._lead_ms)
        try:
            while not reader.is_over():
                for batch in reader.poll(IDLE_POLL_S):
                    yield self.state.take(batch)
                self.state.expire(reader.ended)
        finally:
            reader.close()

    def _recover(self, written: WrittenOutcomes) -> dict[Place, int]:
        """Begin where the log ends now; write, in one transaction, what is not written yet.

        Returns the positions.
        """
        _LOG.warning("positions are lost: outcomes are compared with the log", written=len(written))
        self.state = OutcomeState(self._pipeline)
        ends = PositionReader(self._bootstrap)
        try:
            found = ends.ends(dict.fromkeys(self.state.topics, self._pipeline.events.partitions))
        finally:
            ends.close()
        places = {(topic, p): end for topic, by in found.items() for p, end in by.items()}
        for matched in self._fold({}, places):
            self._publish(matched.only(~written.has(self._writer.keys(matched))))
        self._commit_positions(places)
        return places

    # The loop

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; then commit and save the state."""
        failures = 0
        while not stop.is_set():
            beat()
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
                self._publisher.drop()
                self._reader.close()
                with suspended():  # how long it takes depends on the log
                    self._open()
        self.finish()

    def turn(self) -> None:
        """Read what has come, write what is complete, commit and save where it is time."""
        for batch in self._reader.poll(IDLE_POLL_S):
            spans = None
            if batch.topic == self._topics.predictions:
                note_arrival("prediction_to_outcomes", batch, now_ms())
                group, traces = self._topics.group("outcomes"), self._reader.traces
                spans = tracing.begun(batch.topic, batch.partition, group, traces)
            self._publish(self.state.take(batch))
            if spans is not None:
                spans.end(batch.offsets.tolist())
            hops.count(batch.topic, len(batch))
            self._since_commit += len(batch)
            if self._since_commit >= COMMIT_RECORDS:
                self._commit()
        if time.monotonic() - self._committed_at_s >= COMMIT_EVERY_S:
            self._commit()

    def finish(self) -> None:
        """Commit and save."""
        self._commit()
        self._save()

    def close(self) -> None:
        """Let go of all connections, and of the folder."""
        self._publisher.close()
        self._reader.close()
        self._lock.close()

    # What is written

    def _publish(self, matched: Matched) -> None:
        if not len(matched):
            return
        if not self._begun:
            self._publisher.begin()
            self._begun = True
        self._publisher.produce(self._writer.outgoing(matched, self.state.texts))
        hops.count(self._topics.outcomes, len(matched))

    def _commit(self) -> None:
        positions, now_s = dict(self._reader.positions), time.monotonic()
        if positions == self._committed and now_s - self._committed_at_s < COMMIT_IDLE_EVERY_S:
            return
        self.state.expire(self._reader.ended)
        self._commit_positions(positions)
        self._committed, self._committed_at_s = positions, now_s
        self._since_save += self._since_commit
        self._since_commit = 0
        if self._since_save >= max(self._save_records, 2 * self.state.joining.events):
            self._save()

    def _commit_positions(self, positions: Mapping[Place, int]) -> None:
        """Commit what was published and all positions, moved or not: the broker forgets each
        some days after its last commit."""
        if not self._begun:
            self._publisher.begin()
        noted = (self._topics.labels, 0)
        self._publisher.commit(positions, {noted: self.state.account().note()})
        self._begun = False

    def _save(self) -> None:
        """Save the state, which must be that of the committed positions."""
        self._snapshots.save(self.state, self._committed)
        self._since_save = 0


def run_outcomes(bootstrap: str, pipeline: Pipeline, home: Path) -> None:
    """Write outcomes until SIGTERM or SIGINT. Errors as :class:`OutcomesWorker`."""
    with until_signal(threading.Event()) as stop:
        worker = OutcomesWorker(bootstrap, pipeline, home)
        try:
            with rare_collections():
                worker.run(stop)
        finally:
            worker.close()
