"""Features at request time: windows from the online store, the rest from the request itself.

No Feast is needed, so a reader opens at once. Feast knows on-demand feature views for the second
half; none is generated, since Feast keeps their source text in the registry and runs it on pandas
frames, a second implementation of every expression. Here the request passes through the decoder and
the functions that the feature worker uses, so it gives the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from features.definition import Combination, Definition, combine
from features.store.columnar import open_store
from features.store.request_features import Request, RequestFeatures, Values
from features.store.rows import entity_keys
from features.store.table import store_folder
from features.store.views import View, stored_name, views_of
from streams.errors import SourceError
from streams.settings import Settings
from streams.stream import EventStream, LabelStream


class OnlineReader:
    """Reads what the feature worker keeps online; for one thread at a time.

    What is stored of an entity is what its newest event's feature record says: windows up to that
    event, itself left out.

    Args:
        home: the folder of the pipeline's state.
        definition: the features.
        events: the stream.
        settings: which online store; by default the environment's.
        labels: the labels, where the definition uses them.
        project: the pipeline's name, where the folder is not called so.

    Raises:
        ConfigurationError: the settings name no store that is known.
    """

    def __init__(
        self,
        home: Path,
        definition: Definition,
        events: EventStream,
        settings: Settings | None = None,
        *,
        labels: LabelStream | None = None,
        project: str | None = None,
    ) -> None:
        self._definition = definition
        self._views = views_of(definition, events, labels)
        self._keys = definition.keys(events, labels)
        self._project = project or home.name
        self._store = open_store(store_folder(home), settings or Settings())
        self._event_time = events.event_time
        self._type = events.type.__name__
        self._request = RequestFeatures(definition, events)

    def read(
        self,
        entities: Mapping[str, str] | Sequence[str],
        request: Request | None = None,
        at_ms: int | None = None,
    ) -> Values:
        """Return feature → value in declared order: number, text, or None where missing.

        Args:
            entities: field → entity, or the entities in the order of the definition's keys. A key
                may be left out: its features are missing then.
            request: an event that has not happened yet, or some of its fields: row features come
                from it. Its id may be left out, its entity and time come from the other arguments.
                Without a request row features are those of the entity's newest event.
            at_ms: now, milliseconds since the epoch: what had outlived its time to live by then is
                missing. By default the request's event time, and without any nothing has.

        Raises:
            SourceError: the request does not fit the type of the events.
            StateError: the store can't be read.
        """
        keys = dict(entities) if isinstance(entities, Mapping) else self._by_field(entities)
        if unknown := set(keys) - set(self._keys):
            raise SourceError(
                f"entities by {', '.join(sorted(unknown))}: the definition's keys are "
                f"{', '.join(self._keys)}"
            )
        computed: Values = {}
        if request is not None:
            fields = self._request.completed(request, keys, at_ms)
            computed = self._computed(fields)
            at_ms = fields.get(self._event_time) if at_ms is None else at_ms
        values: Values = dict.fromkeys(self._definition.features)
        for view in self._views:
            if view.entity in keys:
                values.update(self._stored(view, keys[view.entity], at_ms))
        values.update(computed)
        return self._combined(values)

    def event_time_ms(self, entity: str, field: str | None = None) -> int | None:
        """Return the event time of what is stored of an entity; None where nothing is."""
        view = next(v for v in self._views if field in (None, v.entity))
        name, (key,) = stored_name(self._project, view.name), entity_keys(view.entity, [entity])
        (found,) = self._store.read(name, [key])
        return None if found is None else found[0]

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    def _by_field(self, entities: Sequence[str]) -> dict[str, str]:
        if isinstance(entities, str) or len(entities) > len(self._keys):
            raise SourceError(
                f"entities {entities!r}: a list of at most {len(self._keys)}, of "
                f"{', '.join(self._keys)}"
            )
        return dict(zip(self._keys, entities, strict=False))

    def _computed(self, fields: Mapping[str, Any]) -> Values:
        """Return the row features of an event."""
        (found,) = self._request.of([fields])
        if isinstance(found, str):
            raise SourceError(
                f"the request is no {self._type}: {found}; give the fields of an event, its time "
                "in milliseconds"
            )
        return found

    def _stored(self, view: View, entity: str, at_ms: int | None) -> Values:
        """Return what the store has of an entity; nothing where that has expired."""
        name, (key,) = stored_name(self._project, view.name), entity_keys(view.entity, [entity])
        (found,) = self._store.read(name, [key])
        if found is None:
            return {}
        if at_ms is not None and view.ttl_ms is not None and found[0] < at_ms - view.ttl_ms:
            return {}
        return view.layout.decode(found[1]) or {}

    def _combined(self, values: Values) -> Values:
        """Return the values with all combinations made of what they now stand on."""
        for name, feature in self._definition.features.items():
            if isinstance(feature, Combination):
                left, right = _column(values[feature.left]), _column(values[feature.right])
                values[name] = _plain(combine(feature, left, right)[0])
        return values


def _column(value: float | str | None) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([value if isinstance(value, float) else np.nan], dtype=np.float64)


def _plain(number: float | np.float64) -> float | None:
    return None if np.isnan(number) else float(number)
