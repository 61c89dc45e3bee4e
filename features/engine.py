"""The feature engine: a batch of events in, a row of features per event out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.columns import Decoder, EventColumns, EventDecoder
from features.decoding import dead_letter, take
from features.definition import Definition
from features.identities import SeenIds
from features.origins import SeenOrigins
from features.records import FeatureRows
from features.rows import RowMaker
from features.staging import earlier_features, stage_features
from features.window_plan import plan_windows
from features.windows import WindowState
from streams.batch import LogBatch
from streams.dead_letters import DUPLICATE_EVENT, DeadLetter
from streams.errors import StateError
from streams.stream import EventStream, LabelStream

SNAPSHOT_FORMAT = 1


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
        self._plan = plan_windows(
            [definition.features[name] for name in self._own],  # type: ignore[misc]
            own.expressions,
            own.never_missing,
            events.lateness_ms,
        )
        self._windows = WindowState(self._plan)
        self._slots: dict[str, int] = {}
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
    def late(self) -> int:
        """How many events since the log's beginning came too late to change a window."""
        return self._late

    def process(
        self,
        batch: LogBatch,
        labels: LogBatch | None = None,  # noqa: ARG002
        seen: NDArray[np.int64] | None = None,  # noqa: ARG002
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
        columns, watermarks_ms, repeated = self._admit(batch, columns, dead)
        dead.sort(key=lambda letter: letter.offset)
        is_late = columns.event_times_ms < watermarks_ms - self._events.lateness_ms
        late = int(is_late.sum())
        self._late += late
        entities = self._texts(columns, self._key)
        windowed = self._windows.update(
            self._slots_of(entities),
            columns.event_times_ms,
            watermarks_ms,
            is_late,
            columns.numbers,
        )
        return Processed(
            rows=self._rows.make(batch, columns, windowed, None),
            keys=take(batch.keys, columns.rows.tolist()),
            dead=dead,
            late=late,
            places=columns.rows,
            stage_entities=entities,
            next_entities=self._texts(columns, self._next_key) if self._next_key else [],
            repeated=repeated,
        )

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
        texts = [entity.encode() for entity in self._slots]
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        return {
            "format": np.array([SNAPSHOT_FORMAT], dtype=np.int64),
            "fingerprint": self._fingerprint(),
            "late": np.array([self._late], dtype=np.int64),
            "entity_ends": ends,
            "entity_bytes": np.frombuffer(b"".join(texts), dtype=np.uint8).copy(),
            **(self._origins.snapshot() if self._stage else self._ids.snapshot()),
            **self._windows.snapshot(),
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
            engine._slots = _slots_from(
                arrays["entity_ends"], arrays["entity_bytes"], len(arrays["last_ms"])
            )
            if stage:
                engine._origins.restore(arrays["watermark_ms"], arrays["seen_origins"])
            else:
                engine._ids.restore(arrays["watermark_ms"], arrays["seen_ids"])
            engine._windows = WindowState.restore(engine._plan, arrays)
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

    def _slots_of(self, entities: list[str]) -> NDArray[np.int64]:
        """Return each entity's slot, shape (n,); new entities get the next ones in log order."""
        slots = self._slots
        try:
            found = list(map(slots.__getitem__, entities))
        except KeyError:
            for entity in dict.fromkeys(entities):
                slots.setdefault(entity, len(slots))
            found = list(map(slots.__getitem__, entities))
        return np.array(found, dtype=np.int64)


def warm_up() -> None:
    """Load the compiled loops, so that the first batch need not wait for them.

    Compiling takes seconds, once on a machine; loading takes tenths of a second. What is compiled
    does not depend on the definition.
    """
    none = np.empty(0, dtype=np.int64)
    ids = SeenIds(1000)
    ids.admit(["a"], np.zeros(1, dtype=np.int64))
    ids.restore(**ids.snapshot())
    WindowState(plan_windows([], [], set(), 0)).update(
        none, none, none, none.astype(np.bool_), np.empty((0, 0), dtype=np.float64)
    )


def _slots_from(ends: NDArray[np.int64], data: NDArray[np.uint8], entities: int) -> dict[str, int]:
    text = data.tobytes()
    bounds = [0, *ends.tolist()]
    slots = {text[a:b].decode(): slot for slot, (a, b) in enumerate(pairwise(bounds))}
    if len(slots) != entities or bounds[-1] != len(text):
        raise ValueError("the names of the entities do not match their windows")
    return slots
