"""The feature engine: a batch of events in, a row of features per event out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.calendar import LocalTime
from features.columns import EventColumns, EventDecoder, dead_letter, take
from features.definition import (
    Category,
    Combination,
    DayOfWeek,
    Definition,
    Feature,
    HourOfDay,
    Number,
    combine,
    kind_of,
)
from features.identities import SeenIds
from features.records import FeatureRows
from features.window_plan import is_windowed, plan_windows
from features.windows import WindowState
from streams.batch import LogBatch
from streams.dead_letters import DUPLICATE_EVENT, DeadLetter
from streams.errors import StateError
from streams.stream import EventStream

SNAPSHOT_FORMAT = 1

_DIGITS = np.array([str(i) for i in range(24)], dtype=object)


@dataclass(frozen=True, slots=True)
class Processed:
    """What became of a batch. ``rows`` has one row per usable event, ``keys`` their record keys.

    ``dead`` are the others, by offset; ``late`` is how many of the rows' events came too late to
    change a window.
    """

    rows: FeatureRows
    keys: list[bytes | None]
    dead: list[DeadLetter]
    late: int


class FeatureEngine:
    """The state of one partition, and the features of its events.

    The rows are a function of the partition's log and the definition, whatever the batches.
    """

    def __init__(self, definition: Definition, events: EventStream) -> None:
        self._definition = definition
        self._events = events
        self._decoder = EventDecoder(definition, events)
        self._windowed = [n for n, f in definition.features.items() if is_windowed(f)]
        self._clocks = {
            feature.timezone: LocalTime(feature.timezone)
            for feature in definition.features.values()
            if isinstance(feature, HourOfDay | DayOfWeek)
        }
        self._ids = SeenIds(events.dedupe_ms)
        self._plan = plan_windows(
            [definition.features[name] for name in self._windowed],  # type: ignore[misc]
            self._decoder.expressions,
            self._decoder.never_missing,
            events.lateness_ms,
        )
        self._windows = WindowState(self._plan)
        self._slots: dict[str, int] = {}
        self._late = 0

    @property
    def watermark_ms(self) -> int | None:
        """The newest event time so far, milliseconds since the epoch; None before any event."""
        return self._ids.watermark_ms

    @property
    def late(self) -> int:
        """How many events since the log's beginning came too late to change a window."""
        return self._late

    def process(self, batch: LogBatch) -> Processed:
        """Take the next records of the partition's log; return their features."""
        columns, dead = self._decoder.decode(batch)
        is_new, watermarks_ms = self._ids.admit(columns.event_ids, columns.event_times_ms)
        if not is_new.all():
            dead += self._duplicates(batch, columns, is_new)
            columns, watermarks_ms = columns.only(is_new), watermarks_ms[is_new]
        dead.sort(key=lambda letter: letter.offset)
        is_late = columns.event_times_ms < watermarks_ms - self._events.lateness_ms
        late = int(is_late.sum())
        self._late += late
        windowed = self._windows.update(
            self._slots_of(columns.entities),
            columns.event_times_ms,
            watermarks_ms,
            is_late,
            columns.numbers,
        )
        rows = FeatureRows(
            partition=batch.partition,
            event_ids=columns.event_ids,
            entities=columns.entities,
            event_times_ms=columns.event_times_ms,
            source_offsets=batch.offsets[columns.rows],
            numeric=self._numeric(columns, windowed),
            categories=[
                self._category(feature, columns)
                for feature in self._definition.features.values()
                if kind_of(feature) == "category"
            ],
            groups=[columns.texts[name] for name in self._definition.groups],
        )
        return Processed(rows, take(batch.keys, columns.rows.tolist()), dead, late)

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
            **self._ids.snapshot(),
            **self._windows.snapshot(),
        }

    @classmethod
    def restore(
        cls, definition: Definition, events: EventStream, arrays: Mapping[str, NDArray[Any]]
    ) -> "FeatureEngine":
        """Return the engine whose :meth:`snapshot` the arrays are.

        Raises:
            StateError: they are of another definition or format, or damaged.
        """
        engine = cls(definition, events)
        try:
            if arrays["format"].tolist() != [SNAPSHOT_FORMAT]:
                raise StateError(
                    f"the snapshot has format {arrays['format'].tolist()}, this version reads "
                    f"{SNAPSHOT_FORMAT}: delete it, the state is rebuilt from the log"
                )
            if not np.array_equal(arrays["fingerprint"], engine._fingerprint()):
                raise StateError(
                    f"the snapshot was made by another definition than v{definition.version} as "
                    "it stands now: give the changed definition a new version, or delete the "
                    "snapshot to rebuild the state from the log"
                )
            engine._late = int(arrays["late"][0])
            engine._slots = _slots_from(
                arrays["entity_ends"], arrays["entity_bytes"], len(arrays["last_ms"])
            )
            engine._ids.restore(arrays["watermark_ms"], arrays["seen_ids"])
            engine._windows = WindowState.restore(engine._plan, arrays)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise StateError(
                f"the snapshot is damaged ({error}): delete it, the state is rebuilt from the log"
            ) from error
        return engine

    def _fingerprint(self) -> NDArray[np.uint8]:
        digest = bytes.fromhex(self._definition.hash(self._events))
        return np.frombuffer(digest, dtype=np.uint8).copy()

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

    def _numeric(self, columns: EventColumns, windowed: NDArray[np.float64]) -> NDArray[np.float64]:
        names = self._definition.names("numeric")
        place = {name: i for i, name in enumerate(names)}
        numeric = np.empty((len(columns.rows), len(names)), dtype=np.float64)
        for i, name in enumerate(self._windowed):
            numeric[:, place[name]] = windowed[:, i]
        for name in names:
            feature = self._definition.features[name]
            if isinstance(feature, Number):
                column = self._decoder.expressions.index(feature.of)
                numeric[:, place[name]] = columns.numbers[:, column]
        for name in names:
            feature = self._definition.features[name]
            if isinstance(feature, Combination):
                left, right = numeric[:, place[feature.left]], numeric[:, place[feature.right]]
                numeric[:, place[name]] = combine(feature, left, right)
        # Sums may overflow; what is no number any more is missing, as it is in JSON.
        numeric[~np.isfinite(numeric)] = np.nan
        return numeric

    def _category(self, feature: Feature, columns: EventColumns) -> list[str]:
        match feature:
            case HourOfDay(timezone):
                numbers = self._clocks[timezone].hours(columns.event_times_ms)
            case DayOfWeek(timezone):
                numbers = self._clocks[timezone].weekdays(columns.event_times_ms)
            case Category(field):
                return columns.texts[field]
            case _:
                raise TypeError(f"{feature!r} is no category")
        texts: list[str] = _DIGITS[numbers].tolist()
        return texts


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
