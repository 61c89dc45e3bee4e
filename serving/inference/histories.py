"""What models that see an entity's last events need, for each partition that a worker answers.

The state of a partition (:mod:`serving.inference.entity_events`) is a function of the features log
up to an offset. Before rows are answered it stands exactly where they begin: it is moved there by
reading the log, from a snapshot or from the log's beginning where there is none, or none deep
enough. What is answered counts once the answers are committed. So neither a crash, a failed commit,
nor another holder of the partition changes an answer, and a lost snapshot costs a reading.

A model that begins to answer in the middle of a run has its histories loaded in a thread beside
(:meth:`HistoryKeeper.prepare`), so that those before it go on answering meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import structlog
from confluent_kafka import KafkaException
from numpy.typing import NDArray

from features.definition import Definition
from features.records import FeatureCodec, FeatureRows
from serving.inference.entity_events import EntityEvents, Looked
from serving.inference.stretches import NOTHING_ANSWERED, Place, Position
from streams.errors import BrokerError, StateError
from streams.kafka_client import consumer, watermarks
from streams.replay import read_ranges
from streams.settings import Settings
from streams.snapshots import Snapshot, SnapshotStore, log_identity
from streams.stream import EventStream, LabelStream
from streams.topics import Topics
from training.dataset.histories import Histories

SAVE_RECORDS = 200_000
"""A state is saved after so many records, or twice as many as it holds events: saving it then
costs less than reading again what came since."""

CLOSE_TIMEOUT_S = 30.0

_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True)
class HistorySource:
    """A definition's features: how they are read, and what a state is made by (its hash)."""

    topic: str
    codec: FeatureCodec
    numeric: int
    categories: int
    maker: str


class HistoryKeeper:
    """Holds the events that later ones look back at, of all partitions that need them.

    Args:
        bootstrap: the brokers.
        sources: definition → its features.
        folder: where snapshots lie, a folder of its own per definition.
        save_records: see :data:`SAVE_RECORDS`.
    """

    def __init__(
        self,
        bootstrap: str,
        sources: Mapping[int, HistorySource],
        folder: Path | str,
        save_records: int = SAVE_RECORDS,
    ) -> None:
        self._bootstrap, self._folder, self._save_records = bootstrap, folder, save_records
        self._sources = {source.topic: source for source in sources.values()}
        self._versions = {source.topic: version for version, source in sources.items()}
        self._held: dict[Place, EntityEvents] = {}
        self._saved: dict[Place, int] = {}
        self._looked: dict[Place, tuple[EntityEvents, Looked]] = {}
        self._loading: _Loading | None = None
        self._stores: dict[str, SnapshotStore] = {}

    def keep(self, depths: Mapping[str, int], partitions: Sequence[int]) -> None:
        """Drop what no model needs any more, or another worker holds now.

        ``depths``: features topic → how many events the models see that need its histories.
        """
        for place in list(self._held):
            if not depths.get(place[0]) or place[1] not in partitions:
                self._save(place)
                del self._held[place]

    # --- answering -------------------------------------------------------------------------------

    def look(
        self, place: Place, begin: Position, rows: FeatureRows, last: int
    ) -> NDArray[np.int64]:
        """Take the rows that follow the position ``begin``, at least one; return their numbers,
        (n,), for :meth:`histories`: −1 for repetitions. Counts for nothing until confirmed.

        Raises:
            BrokerError, StateError: the features can't be read up to ``begin``.
        """
        known = self._looked.get(place)
        if known is not None and known[0].last >= last:
            return known[1].rows  # the same batch: another model answered it before, and failed
        answered = begin.answered
        if answered == NOTHING_ANSWERED:  # nobody knows, where a tool has set the offset
            answered = int(rows.source_offsets[0]) - 1
        events = self._at(place, begin.next_offset, answered, last)
        looked = events.look(rows)
        self._looked[place] = events, looked
        return looked.rows

    def histories(self, place: Place, rows: NDArray[np.int64], last: int) -> Histories:
        """Return the histories of the events that :meth:`look` gave these numbers."""
        return self._looked[place][0].histories(rows, last)

    def confirm(self, reached: Mapping[Place, Position]) -> None:
        """Count what was looked at: its answers are committed with the positions ``reached``."""
        for place, (events, looked) in self._looked.items():
            if place not in reached or events is not self._held.get(place):
                continue
            events.confirm(looked, reached[place].next_offset)
            since = events.next_offset - self._saved.get(place, 0)
            if since >= max(self._save_records, 2 * len(events)):
                self._save(place)
        self._looked.clear()

    def forget(self) -> None:
        """Forget what was looked at: it is not committed, or its answers are not needed."""
        self._looked.clear()

    # --- loading beside --------------------------------------------------------------------------

    def is_ready(self, places: Sequence[Place], last: int) -> bool:
        """Return whether histories of ``last`` events are at hand for all ``places``, but for what
        came of late.

        Raises:
            BrokerError, StateError: what was being loaded beside could not be.
        """
        self._take_loaded()
        return all(place in self._held and self._held[place].last >= last for place in places)

    def prepare(self, targets: Mapping[Place, Callable[[], int]], last: int) -> None:
        """Begin to load histories of ``last`` events beside; what is being loaded goes on.

        ``targets`` say up to which offset, and are asked again while that moves on.
        """
        if self._loading is not None:
            return
        missing = {
            place: target
            for place, target in targets.items()
            if place not in self._held or self._held[place].last < last
        }
        if missing:
            _LOG.info("histories are loaded", places=sorted(missing), last=last)
            self._loading = _Loading(self, missing, last)

    def close(self) -> None:
        """Save all, so that the next start reads little."""
        if self._loading is not None:
            self._loading.stop()
        for place in self._held:
            self._save(place)

    def _take_loaded(self) -> None:
        if self._loading is None or not self._loading.is_over:
            return
        loaded = self._loading
        self._loading = None
        for place, events in loaded.result().items():
            held = self._held.get(place)
            if held is None or held.last < events.last:
                self._held[place] = events

    # --- moving a state through the log -----------------------------------------------------------

    def _at(self, place: Place, offset: int, answered: int, last: int) -> EntityEvents:
        """Return the state of the log before ``offset``.

        What stands there behind the source offset ``answered`` is a stretch that a crash made the
        feature stage emit again: it comes once more, and is answered and counted then.
        """
        self._take_loaded()
        events = self._held.get(place)
        if events is None or events.last < last or not _is_before(events, offset, answered):
            events = self.opened(place, offset, answered, last)
            self._held[place] = events
        if events.next_offset < offset:
            self.move(events, place, offset, answered)
        return events

    def opened(self, place: Place, offset: int, answered: int | None, last: int) -> EntityEvents:
        """Return the newest state that a snapshot has of before ``offset``, or an empty one."""
        source = self._sources[place[0]]
        snapshot = self._store(place).load(place[1])
        if snapshot is not None:
            try:
                events = self._restored(source, snapshot)
                if events.last >= last and _is_before(events, offset, answered):
                    self._saved[place] = snapshot.next_offset
                    return events
            except StateError as error:
                self._store(place).discard(place[1], str(error))
        self._saved[place] = 0
        begin = min(offset, _first_offset(self._bootstrap, place))
        return EntityEvents(source.numeric, source.categories, last, begin)

    def move(
        self,
        events: EntityEvents,
        place: Place,
        offset: int,
        answered: int | None = None,
        stopped: threading.Event | None = None,
    ) -> None:
        """Take what stands in the log up to ``offset``."""
        wanted = {place[1]: (events.next_offset, offset)}
        codec = self._sources[place[0]].codec
        for batch in read_ranges(self._bootstrap, place[0], wanted):
            events.confirm(events.look(codec.decode(batch), answered), batch.next_offset)
            if stopped is not None and stopped.is_set():
                return
        events.next_offset = offset

    def _restored(self, source: HistorySource, snapshot: Snapshot) -> EntityEvents:
        if snapshot.maker != source.maker:
            raise StateError("it is of another definition")
        return EntityEvents.restore(
            snapshot.arrays, source.numeric, source.categories, snapshot.next_offset
        )

    def _save(self, place: Place) -> None:
        events = self._held[place]
        if events.next_offset == self._saved.get(place):
            return
        snapshot = Snapshot(events.next_offset, events.snapshot(), self._sources[place[0]].maker)
        try:
            self._store(place).save(place[1], snapshot)
        except StateError as error:  # the answers go on; a restart reads more
            _LOG.warning("histories not saved", error=str(error))
        self._saved[place] = events.next_offset

    def _store(self, place: Place) -> SnapshotStore:
        topic = place[0]
        if topic not in self._stores:
            name = f"v{self._versions[topic]}"
            folder = (
                self._folder.with_name(f"{self._folder.name}-{name}")
                if isinstance(self._folder, Path)
                else f"{self._folder}-{name}"
            )
            self._stores[topic] = SnapshotStore(folder, log_identity(self._bootstrap, topic))
        return self._stores[topic]


def history_keeper(
    bootstrap: str,
    topics: Topics,
    definitions: Sequence[Definition],
    events: EventStream,
    labels: LabelStream | None,
    home: Path,
    role: str,
) -> HistoryKeeper:
    """Return the keeper of a worker of ``role``, whose snapshots lie where the settings say."""
    place = Settings().snapshots_of(topics.name, home)
    name = f"histories-{role}"
    sources = {
        d.version: HistorySource(
            replace(topics, definition=d.version).features,
            FeatureCodec(d, events, labels),
            len(d.names("numeric")),
            len(d.names("category")),
            d.hash(events, labels),
        )
        for d in definitions
    }
    return HistoryKeeper(
        bootstrap, sources, place / name if isinstance(place, Path) else f"{place}/{name}"
    )


class _Loading:
    """A thread that brings states of some places close to where they will be needed."""

    def __init__(
        self, keeper: HistoryKeeper, targets: Mapping[Place, Callable[[], int]], last: int
    ) -> None:
        self._keeper, self._targets, self._last = keeper, targets, last
        self._loaded: dict[Place, EntityEvents] = {}
        self._failure: Exception | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="histories", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> dict[Place, EntityEvents]:
        if self._failure is not None:
            raise self._failure
        return self._loaded

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        try:
            for place, target in self._targets.items():
                events = self._keeper.opened(place, target(), None, self._last)
                while events.next_offset < (end := target()) and not self._stopped.is_set():
                    self._keeper.move(events, place, end, stopped=self._stopped)
                self._loaded[place] = events
        except (BrokerError, StateError) as error:
            self._failure = error


def _is_before(events: EntityEvents, offset: int, answered: int | None) -> bool:
    """Return whether a state is of no more than the log before that."""
    return events.next_offset <= offset and (answered is None or events.newest_source <= answered)


def _first_offset(bootstrap: str, place: Place) -> int:
    client = consumer(bootstrap)
    try:
        return watermarks(client, *place)[0]
    except KafkaException as error:
        raise BrokerError(f"the beginning of {place[0]} can't be found: {error}") from error
    finally:
        client.close()
