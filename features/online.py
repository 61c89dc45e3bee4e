"""The online store: Feast's registry and SQLite files under the pipeline's folder.

Feast takes eight seconds to import, so nothing here imports it before a table is opened. Rows are
written through the provider's ``online_write_batch`` with what was built once; Feast's own ``push``
reads the registry again at every call.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from features.definition import Definition, kind_of
from features.records import FeatureRows
from streams.errors import StateError
from streams.stream import EventStream

TIME_FIELD = "kappa_event_time_ms"
"""Field of every view: the row's event time. Feast's own timestamp drops the milliseconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_402_300_799_999  # the end of year 9999, the last that a datetime can say


@dataclass(frozen=True, slots=True)
class OnlineRow:
    """The features of one entity: numbers, texts, or None where missing, in declared order."""

    entity: str
    event_time_ms: int
    values: Sequence[float | str | None]


class OnlineTable:
    """One definition's feature view in Feast. Not for several threads at once.

    Args:
        folder: where registry and online store lie; users open it with
            ``feast.FeatureStore(repo_path=folder)``.
        project: name of the pipeline.
        definition: its features become the view's fields: Float64 or String.
        events: names the entity.

    Raises:
        StateError: Feast can't make or open the store.
    """

    def __init__(
        self, folder: Path, project: str, definition: Definition, events: EventStream
    ) -> None:
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        self._new_key, self._new_value = EntityKey, Value
        self._join_key = events.entity
        self._numeric = [kind_of(feature) == "numeric" for feature in definition.features.values()]
        self._names = list(definition.features)
        self.view = view_name(definition)
        try:
            self._store = _prepare(folder, project, definition, events)
            self._provider = self._store._get_provider()
            self._table = self._store.get_feature_view(self.view)
        except Exception as error:
            raise StateError(
                f"Feast can't open the online store in {folder} ({error}): the folder holds "
                "nothing that the log does not, so it may be deleted"
            ) from error

    def rows(self, rows: FeatureRows, indices: Sequence[int]) -> list[OnlineRow]:
        """Return these rows as the store takes them."""
        numeric = rows.numeric[list(indices)].tolist()
        made = []
        for i, numbers in zip(indices, numeric, strict=True):
            number, text = iter(numbers), iter(rows.categories)
            values: list[float | str | None] = [
                _missing(next(number)) if is_numeric else next(text)[i] or None
                for is_numeric in self._numeric
            ]
            made.append(OnlineRow(rows.entities[i], int(rows.event_times_ms[i]), values))
        return made

    def write(self, rows: Sequence[OnlineRow]) -> None:
        """Put the rows in the place of what their entities had, in one transaction."""
        data = [
            (
                self._key(row.entity),
                self._values(row),
                _EPOCH + timedelta(milliseconds=row.event_time_ms),
                None,
            )
            for row in rows
            if 0 <= row.event_time_ms <= _LAST_MS
        ]
        if data:
            self._provider.online_write_batch(self._store.config, self._table, data, None)

    def times_ms(self, entities: Sequence[str]) -> dict[str, int]:
        """Return entity → event time of what the store has; without those it does not know."""
        found = self._provider.online_read(
            self._store.config, self._table, [self._key(e) for e in entities], [TIME_FIELD]
        )
        return {
            entity: values[TIME_FIELD].int64_val
            for entity, (_, values) in zip(entities, found, strict=True)
            if values is not None and TIME_FIELD in values
        }

    def _key(self, entity: str) -> Any:
        return self._new_key(
            join_keys=[self._join_key], entity_values=[self._new_value(string_val=entity)]
        )

    def _values(self, row: OnlineRow) -> dict[str, Any]:
        values = dict(zip(self._names, map(self._value, row.values), strict=True))
        values[TIME_FIELD] = self._new_value(int64_val=row.event_time_ms)
        return values

    def _value(self, value: float | str | None) -> Any:
        if value is None:
            return self._new_value()
        if isinstance(value, str):
            return self._new_value(string_val=value)
        return self._new_value(double_val=value)


def view_name(definition: Definition) -> str:
    """Return the name of the definition's feature view."""
    return f"features_v{definition.version}"


def store_folder(home: Path) -> Path:
    """Return where the pipeline whose state lies in ``home`` has its Feast repository."""
    return home / "feast"


def read_online(
    home: Path, definition: Definition, events: EventStream, entity: str
) -> dict[str, Any]:
    """Return feature → value of an entity through Feast's SDK; all None where it is unknown.

    Raises:
        StateError: there is no online store yet.
    """
    folder = store_folder(home)
    if not (folder / "feature_store.yaml").exists():
        raise StateError(f"no online store in {folder}: the feature worker makes it (`kappa up`)")
    from feast import FeatureStore

    view, names = view_name(definition), list(definition.features)
    found = FeatureStore(repo_path=str(folder)).get_online_features(
        features=[f"{view}:{name}" for name in names], entity_rows=[{events.entity: entity}]
    )
    columns = found.to_dict()
    return {name: columns[name][0] for name in names}


def _prepare(folder: Path, project: str, definition: Definition, events: EventStream) -> Any:
    """Return the feature store, its registry brought up to the definition."""
    from feast import FeatureStore

    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / "apply.lock"):
        settings = folder / "feature_store.yaml"
        draft = settings.with_suffix(".draft")
        draft.write_text(
            f"project: {project}\nprovider: local\n"
            "registry:\n  registry_type: file\n  path: registry.db\n  cache_ttl_seconds: 0\n"
            "online_store:\n  type: sqlite\n  path: online.db\n"
            "offline_store:\n  type: file\nentity_key_serialization_version: 3\n"
        )
        draft.replace(settings)
        store = FeatureStore(repo_path=str(folder))
        wanted = _feast_objects(folder, definition, events)
        known = {view.name: view for view in store.list_feature_views()}
        if not _same_fields(known.get(view_name(definition)), wanted[-1]):
            store.apply(wanted)
    return store


def _feast_objects(folder: Path, definition: Definition, events: EventStream) -> list[Any]:
    from feast import Entity, FeatureView, Field, FileSource, PushSource
    from feast.types import Float64, Int64, String
    from feast.value_type import ValueType

    name = view_name(definition)
    # Feast wants an offline source for history; ours is the log, so the file need not exist.
    history = FileSource(
        name=f"{name}_history",
        path=str(folder / f"{name}.parquet"),
        timestamp_field="event_timestamp",
    )
    source = PushSource(name=f"{name}_stream", batch_source=history)
    entity = Entity(name=events.entity, join_keys=[events.entity], value_type=ValueType.STRING)
    fields = [
        Field(name=feature, dtype=Float64 if kind_of(declared) == "numeric" else String)
        for feature, declared in definition.features.items()
    ]
    view = FeatureView(
        name=name,
        entities=[entity],
        schema=[
            Field(name=events.entity, dtype=String),
            *fields,
            Field(name=TIME_FIELD, dtype=Int64),
        ],
        source=source,
        ttl=timedelta(0),
        online=True,
        description=f"definition v{definition.version}, hash {definition.hash(events)}",
    )
    return [entity, history, source, view]


def _same_fields(known: Any, wanted: Any) -> bool:
    return known is not None and known.description == wanted.description


def _missing(number: float) -> float | None:
    return None if number != number else number


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes: two ``apply`` at once lose what one wrote."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
