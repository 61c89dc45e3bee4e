"""The feature engine: a batch of events in, a row of features per event out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definition import Definition
from features.engine.cell_state import Feeds
from features.engine.columns import Decoder, EventColumns, EventDecoder, LabelDecoder
from features.engine.decoding import dead_letter, take
from features.engine.identities import NOTHING_SEEN, SeenIds
from features.engine.label_feed import LabelFeed, PlacedLabels
from features.engine.moment import Moment
from features.engine.origins import SeenOrigins
from features.engine.rows import RowMaker
from features.engine.slots import EntitySlots
from features.engine.state import NO_FEEDS, NOTHING, EntityState, plan_state, warm_up_state
from features.engine.sweeps import Sweeps
from features.records import FeatureRows
from features.staging import earlier_features, label_stage, stage_features
from streams.batch import LogBatch
from streams.dead_letters import DUPLICATE_EVENT, DeadLetter
from streams.errors import DefinitionError, StateError
from streams.stream import EventStream, LabelStream

SNAPSHOT_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Processed:
    """What became of a batch. ``rows`` has one row per usable event, ``keys`` their record keys.

    ``dead`` are the others, by offset; ``late`` is how many of the rows' events came too late to
    change a window. ``places`` (n,) are the rows' places in the batch. ``stage_entities`` are the
    rows' values of the stage's key, ``next_entities`` those of the next stage's (none at the
    last); ``repeated`` is how many re-keyed records had been taken before.
    """

    rows: FeatureRows
    keys: list[bytes | None]
    dead: list[DeadLetter]
    late: int
    places: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    stage_entities: list[str] = field(default_factory=list)
    next_entities: list[str] = field(default_factory=list)
    repeated: int = 0


class FeatureEngine:
    """The state of one partition of one stage, and the features of its events.

    The rows are a function of the partition's log (and of how far the labels had been read, where
    features are made of them) and the definition, whatever the batches.

    Args:
        definition: the features.
        events: the stream.
        labels: what features are made of labels from.
        stage: index into ``definition.keys(events, labels)``; all but the last make only the
            windowed features of their key and of those before.
        decoder: makes columns of the stage's records; those after the first need one, since their
            records are re-keyed.
    """

    def __init__(
        self,
        definition: Definition,
        events: EventStream,
        labels: LabelStream | None = None,
        stage: int = 0,
        decoder: Decoder | None = None,
    ) -> None:
        if labels is None and definition.reads_labels:
            raise DefinitionError(
                f"definition v{definition.version} makes features of labels, but there is no "
                "label stream"
            )
        keys = definition.keys(events, labels)
        if stage and decoder is None:
            raise TypeError(f"stage {stage} reads re-keyed records: it needs a decoder")
        own = EventDecoder(definition, events, labels, stage)
        self._definition, self._events, self._labels = definition, events, labels
        self._stage = stage
        self._key = keys[stage]
        self._next_key = keys[stage + 1] if stage + 1 < len(keys) else None
        self._decoder = own if decoder is None else decoder
        self._own = stage_features(definition, events, labels, stage)
        self._earlier = earlier_features(definition, events, labels, stage)
        self._rows = RowMaker(definition, own.expressions, self._earlier, self._own, self.is_last)
        self._ids = SeenIds(events.dedupe_ms)
        self._origins = SeenOrigins(events.partitions)
        self._label_feed: LabelFeed | None = None
        of_labels = NOTHING
        if labels is not None and label_stage(definition, events, labels) == stage:
            decoder_of_labels = LabelDecoder(definition, labels)
            of_labels = decoder_of_labels.wanted
            self._label_feed = LabelFeed(decoder_of_labels, events.dedupe_ms)
        self._plan = plan_state(
            [definition.features[name] for name in self._own],  # type: ignore[misc]
            own.wanted,
            of_labels,
            events.lateness_ms,
            definition.forget_ms,
        )
        self._state = EntityState(self._plan)
        self._slots = EntitySlots()
        self._sweeps = Sweeps(self._plan.remembered_ms)
        self._late = 0

    @property
    def is_last(self) -> bool:
        """Whether the rows are complete."""
        return self._next_key is None

    @property
    def watermark_ms(self) -> int | None:
        """The newest event time so far, milliseconds since the epoch; None before any event."""
        return self._origins.watermark_ms if self._stage else self._ids.watermark_ms

    @property
    def reads_labels(self) -> bool:
        """Whether this stage makes features of labels."""
        return self._label_feed is not None

    @property
    def label_offset(self) -> int:
        """The next offset of the labels partition that has not been taken; 0 at the beginning."""
        return 0 if self._label_feed is None else self._label_feed.offset

    @property
    def entities(self) -> int:
        """How many entities are remembered."""
        return len(self._slots)

    @property
    def nbytes(self) -> int:
        """How much memory the entities and their windows take, in bytes."""
        return self._slots.nbytes + self._state.nbytes

    @property
    def late(self) -> int:
        """How many events since the log's beginning came too late to change a window."""
        return self._late

    def process(
        self,
        batch: LogBatch,
        labels: LogBatch | None = None,
        seen: NDArray[np.int64] | None = None,
    ) -> Processed:
        """Take the next records of the stage's log; return their features.

        Args:
            batch: the records.
            labels: the next records of the labels partition, for the stage that reads them. All of
                them are applied in the end.
            seen: (len(batch),), does not descend: the offset in the labels partition before which
                all labels are applied when a record is computed; by default, all of ``labels``.
        """
        columns, dead = self._decoder.decode(batch)
        before_ms = self._newest_ms()
        columns, watermarks_ms, repeated = self._admit(batch, columns, dead)
        dead.sort(key=lambda letter: letter.offset)
        is_late = columns.event_times_ms < watermarks_ms - self._events.lateness_ms
        late = int(is_late.sum())
        self._late += late
        entities = self._texts(columns, self._key)
        placed, label_offsets = self._take_labels(columns, labels, seen)
        moment = Moment(columns, entities, watermarks_ms, is_late, before_ms, placed)
        return Processed(
            rows=self._rows.make(batch, columns, self._update(moment), label_offsets),
            keys=_all_or_some(batch.keys, columns.rows),
            dead=dead,
            late=late,
            places=columns.rows,
            stage_entities=entities,
            next_entities=self._texts(columns, self._next_key) if self._next_key else [],
            repeated=repeated,
        )

    def _take_labels(
        self, columns: EventColumns, labels: LogBatch | None, seen: NDArray[np.int64] | None
    ) -> tuple[PlacedLabels | None, NDArray[np.int64] | None]:
        """Return the labels placed among the events, and the label offset of each event."""
        feed = self._label_feed
        if feed is None:
            return None, None
        if seen is None:
            newest = feed.offset if labels is None else max(feed.offset, labels.next_offset)
            offsets = np.full(len(columns.rows), newest, dtype=np.int64)
        else:
            offsets = seen[columns.rows]
        return feed.take(labels, offsets), offsets

    def _update(self, moment: Moment) -> NDArray[np.float64]:
        """Return the values of the stage's features, shape (n, features)."""
        made: list[NDArray[np.float64]] = []
        while True:
            due = self._sweeps.due(moment.watermarks_ms)
            self._sweeps.passed(due)
            if due == len(moment.entities):
                made.append(self._update_between_sweeps(moment))
                return made[0] if len(made) == 1 else np.concatenate(made)
            head, moment = moment.split(due)
            made.append(self._update_between_sweeps(head))
            self._sweep(int(moment.watermarks_ms[0]))

    def _update_between_sweeps(self, part: Moment) -> NDArray[np.float64]:
        placed = part.placed
        if placed is None or not len(placed.before):
            slots, feeds = self._slots.of(part.entities), NO_FEEDS
        else:
            labels, before = placed.columns, placed.before
            # New entities get their slots in the order of the events and labels together.
            order = np.argsort(
                np.append(2 * before, 2 * np.arange(len(part.entities)) + 1), kind="stable"
            )
            names = [*labels.entities, *part.entities]
            found = np.empty(len(names), dtype=np.int64)
            found[order] = self._slots.of(take(names, order.tolist()))
            slots = found[len(before) :]
            marks_ms = np.append(part.before_ms, part.watermarks_ms)[before]
            feeds = Feeds(
                before,
                found[: len(before)],
                labels.times_ms,
                marks_ms,
                labels.numbers,
                labels.hashes,
            )
        return self._state.update(slots, part.columns, part.watermarks_ms, part.is_late, feeds)

    def _sweep(self, watermark_ms: int) -> None:
        """Give up the entities of which nothing can be read any more, if they are many."""
        gone = self._state.expired(len(self._slots), watermark_ms)
        if 4 * int(gone.sum()) >= len(gone) > 0:
            kept = np.flatnonzero(~gone)
            self._state = EntityState.restore(self._plan, self._state.snapshot(kept), len(kept))
            self._slots = EntitySlots.restore(**self._slots.snapshot(kept))
        self._sweeps.looked(watermark_ms, len(self._slots))

    def _newest_ms(self) -> int:
        watermark_ms = self.watermark_ms
        return NOTHING_SEEN if watermark_ms is None else watermark_ms

    def _admit(
        self, batch: LogBatch, columns: EventColumns, dead: list[DeadLetter]
    ) -> tuple[EventColumns, NDArray[np.int64], int]:
        """Return the events that count, the watermark once each was taken, and how many don't."""
        if not self._stage:
            is_new, watermarks_ms = self._ids.admit(columns.event_ids, columns.event_times_ms)
        elif columns.origin_partitions is None or columns.origin_offsets is None:
            raise TypeError(f"the decoder of stage {self._stage} gives no origins")
        else:
            is_new, watermarks_ms = self._origins.admit(
                columns.origin_partitions, columns.origin_offsets, columns.event_times_ms
            )
        if is_new.all():
            return columns, watermarks_ms, 0
        if not self._stage:
            dead += self._duplicates(batch, columns, is_new)
        repeated = int((~is_new).sum()) if self._stage else 0
        return columns.only(is_new), watermarks_ms[is_new], repeated

    def _texts(self, columns: EventColumns, key: str) -> list[str]:
        return columns.entities if key == self._events.entity else columns.texts[key]

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return the whole state as plain arrays; equal logs give equal arrays."""
        slots = np.arange(len(self._slots), dtype=np.int64)
        return {
            "format": np.array([SNAPSHOT_FORMAT], dtype=np.int64),
            "fingerprint": self._fingerprint(),
            "late": np.array([self._late], dtype=np.int64),
            **(self._origins.snapshot() if self._stage else self._ids.snapshot()),
            **(self._label_feed.snapshot() if self._label_feed is not None else {}),
            **self._sweeps.snapshot(),
            **self._slots.snapshot(slots),
            **self._state.snapshot(slots),
        }

    @classmethod
    def restore(
        cls,
        definition: Definition,
        events: EventStream,
        arrays: Mapping[str, NDArray[Any]],
        labels: LabelStream | None = None,
        stage: int = 0,
        decoder: Decoder | None = None,
    ) -> "FeatureEngine":
        """Return the engine whose :meth:`snapshot` the arrays are.

        Raises:
            StateError: they are of another definition, stage or format, or damaged.
        """
        engine = cls(definition, events, labels, stage, decoder)
        try:
            if arrays["format"].tolist() != [SNAPSHOT_FORMAT]:
                raise StateError(
                    f"the snapshot has format {arrays['format'].tolist()}, this version reads "
                    f"{SNAPSHOT_FORMAT}: delete it, the state is rebuilt from the log"
                )
            if not np.array_equal(arrays["fingerprint"], engine._fingerprint()):
                raise StateError(
                    f"the snapshot was made by another definition than v{definition.version} as "
                    "it stands now, or for another stage: give the changed definition a new "
                    "version, or delete the snapshot to rebuild the state from the log"
                )
            engine._late = int(arrays["late"][0])
            if stage:
                engine._origins.restore(arrays["watermark_ms"], arrays["seen_origins"])
            else:
                engine._ids.restore(arrays["watermark_ms"], arrays["seen_ids"])
            if engine._label_feed is not None:
                engine._label_feed.restore(arrays)
            engine._sweeps.restore(arrays["sweeps"])
            engine._slots = EntitySlots.restore(arrays["entity_ends"], arrays["entity_bytes"])
            engine._state = EntityState.restore(engine._plan, arrays, len(engine._slots))
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise StateError(
                f"the snapshot is damaged ({error}): delete it, the state is rebuilt from the log"
            ) from error
        return engine

    def _fingerprint(self) -> NDArray[np.uint8]:
        digest = bytes.fromhex(self._definition.hash(self._events, self._labels))
        return np.frombuffer(digest + bytes([self._stage]), dtype=np.uint8).copy()

    def _duplicates(
        self, batch: LogBatch, columns: EventColumns, is_new: NDArray[np.bool_]
    ) -> Iterable[DeadLetter]:
        for i in np.flatnonzero(~is_new).tolist():
            yield dead_letter(
                batch,
                int(columns.rows[i]),
                DUPLICATE_EVENT,
                f"{self._events.id}={columns.event_ids[i]!r} was seen before, within "
                f"{self._events.dedupe} of event time",
            )


def _all_or_some(values: list[bytes | None], rows: NDArray[np.int64]) -> list[bytes | None]:
    return values if len(rows) == len(values) else take(values, rows.tolist())


def warm_up() -> None:
    """Load the compiled loops, so that the first batch need not wait for them.

    Compiling takes seconds, once on a machine; loading takes tenths of a second. What is compiled
    does not depend on the definition.
    """
    ids = SeenIds(1000)
    ids.admit(["a"], np.zeros(1, dtype=np.int64))
    ids.restore(**ids.snapshot())
    slots = EntitySlots()
    slots.of([str(i) for i in range(1000)])  # the table grows
    EntitySlots.restore(**slots.snapshot(np.zeros(1, dtype=np.int64)))
    warm_up_state()
