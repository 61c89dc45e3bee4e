"""Features of many entities at once, for a service that answers requests.

What :class:`features.store.reader.OnlineReader` says of one row, with one look into the store per
view however many rows are asked for, and with what stands behind each row: how old it is and
whether it has outlived its time to live.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definition import Combination, Definition, combine, kind_of
from features.store.columnar import OnlineStore
from features.store.request_features import RequestFeatures, Values
from features.store.rows import entity_keys
from features.store.views import View, stored_name, views_of
from streams.stream import EventStream, LabelStream


@dataclass(frozen=True, slots=True)
class Wanted:
    """Asked of one row: ``keys`` is field → entity, the events' own among them; ``event`` what
    fields of an event are known beyond them; ``at_ms`` now, milliseconds since the epoch, UTC."""

    keys: Mapping[str, str]
    at_ms: int
    event: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A row of the store that stands behind an answer; an expired one counts as missing."""

    view: str
    event_time_ms: int
    ttl_ms: int | None
    expired: bool


@dataclass(frozen=True, slots=True)
class Found:
    """``values`` in declared order; ``stored`` is empty where the store knows no key of the row.

    ``refused`` says why the fields are no event.
    """

    values: Values
    stored: list[Stored] = field(default_factory=list)
    refused: str | None = None


class OnlineRows:
    """Reads rows of one definition; for one thread at a time.

    Args:
        store: what the feature workers write.
        definition, events, labels: what the rows are made of.
        project: the pipeline's name.
    """

    def __init__(
        self,
        store: OnlineStore,
        definition: Definition,
        events: EventStream,
        labels: LabelStream | None,
        project: str,
    ) -> None:
        self.views = views_of(definition, events, labels)
        self._names = {view.name: stored_name(project, view.name) for view in self.views}
        self._layouts = {view.name: view.layout for view in self.views}
        self._store, self._columns = store, RowColumns(definition)
        self._declared = tuple(definition.features)
        self._request = RequestFeatures(definition, events)

    def read(self, wanted: Sequence[Wanted]) -> list[Found]:
        """Return what is found of each row.

        Row features come from ``event``. Without one they are those of the entity's newest event,
        except that those of time (hour, weekday) are of ``at_ms``.

        Raises:
            StateError: the store can't be read.
        """
        values: list[Values] = [dict.fromkeys(self._declared) for _ in wanted]
        stored: list[list[Stored]] = [[] for _ in wanted]
        for view in self.views:
            self._read_view(view, wanted, values, stored)
        refused = self._compute(wanted, values)
        self._columns.combine(values)
        return list(map(Found, values, stored, refused))

    def _read_view(
        self,
        view: View,
        wanted: Sequence[Wanted],
        values: list[Values],
        stored: list[list[Stored]],
    ) -> None:
        rows = [i for i, row in enumerate(wanted) if view.entity in row.keys]
        if not rows:
            return
        keys = entity_keys(view.entity, [wanted[i].keys[view.entity] for i in rows])
        layout, ttl_ms = self._layouts[view.name], view.ttl_ms
        for i, found in zip(rows, self._store.read(self._names[view.name], keys), strict=True):
            decoded = None if found is None else layout.decode(found[1])
            if found is None or decoded is None:
                continue
            expired = ttl_ms is not None and found[0] < wanted[i].at_ms - ttl_ms
            stored[i].append(Stored(view.name, found[0], ttl_ms, expired))
            if not expired:
                values[i].update(decoded)

    def _compute(self, wanted: Sequence[Wanted], values: list[Values]) -> list[str | None]:
        """Put in what the request itself says; return why it could not, per row."""
        refused: list[str | None] = [None] * len(wanted)
        with_event = [i for i, row in enumerate(wanted) if row.event is not None]
        without = [i for i, row in enumerate(wanted) if row.event is None]
        if with_event:
            fields = [
                self._request.completed(wanted[i].event or {}, wanted[i].keys, wanted[i].at_ms)
                for i in with_event
            ]
            for i, computed in zip(with_event, self._request.of(fields), strict=True):
                if isinstance(computed, str):
                    refused[i] = computed
                else:
                    values[i].update(computed)
        if without:
            of_times = self._request.of_times([wanted[i].at_ms for i in without])
            for i, computed in zip(without, of_times, strict=True):
                values[i].update(computed)
        return refused


class RowColumns:
    """Rows by name ↔ the columns that models see, for one definition."""

    def __init__(self, definition: Definition) -> None:
        self._features = definition.features
        kinds = {name: kind_of(feature) for name, feature in definition.features.items()}
        self.numeric = [name for name, kind in kinds.items() if kind == "numeric"]
        self.categories = [name for name, kind in kinds.items() if kind == "category"]
        self._combined = {
            name: feature
            for name, feature in definition.features.items()
            if isinstance(feature, Combination)
        }

    def combine(self, rows: Sequence[Values], only: Sequence[str] | None = None) -> None:
        """Set the combinations of each row to what its values now give."""
        for name, feature in self._combined.items():
            if only is not None and name not in only:
                continue
            made = combine(feature, _column(rows, feature.left), _column(rows, feature.right))
            for row, value in zip(rows, made.tolist(), strict=True):
                row[name] = None if value != value else value

    def numbers(self, rows: Sequence[Values]) -> NDArray[np.float64]:
        """Return the numeric features of n rows, shape (n, numeric), NaN where missing."""
        made = [[row[name] for name in self.numeric] for row in rows]
        return np.array(made, np.float64).reshape(len(rows), len(self.numeric))

    def texts(self, rows: Sequence[Values]) -> list[list[str]]:
        """Return per category feature n texts, ``""`` where missing."""
        return [[str(row[name] or "") for row in rows] for name in self.categories]


def _column(rows: Sequence[Values], name: str) -> NDArray[np.float64]:
    return np.array([row[name] for row in rows], np.float64)
