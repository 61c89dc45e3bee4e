"""Our online stores as Feast knows them: ``online_store.type`` in ``feature_store.yaml`` names one.

Feast's own stores keep a row per value and build an object per value; these keep a row per entity
(:mod:`features.store.rows`), write it only where the store has nothing newer, and honour a view's
time to live on reads. Feast's ``write_to_online_store``, ``materialize``, ``get_online_features``
work through them; :meth:`ColumnarStore.write_columns` is the short way for whole columns.

Time on reads is the wall clock's, but never beyond the newest event time that the view has seen: so
a history that is played again expires by its own time, and an event dated into the future makes
nothing expire.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.online_store import OnlineStore as FeastOnlineStore
from feast.protos.feast.types.Value_pb2 import RepeatedValue
from feast.repo_config import FeastConfigBaseModel
from numpy.typing import NDArray

from features.store.columnar import OnlineStore
from features.store.redis_store import RedisStore
from features.store.rows import RowLayout, entity_keys, field_values
from features.store.sqlite_store import FILE_NAME, SqliteStore
from features.store.views import stored_name
from streams.errors import ConfigurationError
from streams.settings import from_environment

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_FIRST_MS = -62_135_596_800_000  # the year 1
_LAST_MS = 253_402_300_799_999  # the end of the year 9999, the last that a datetime can say

Row = tuple[datetime | None, dict[str, Any] | None]


class ColumnarStore(FeastOnlineStore):  # type: ignore[misc]
    """What both stores share; ``config`` and ``table`` are Feast's RepoConfig and FeatureView."""

    _versioned_read_supported = False
    _opened: OnlineStore | None = None

    @abstractmethod
    def open(self, config: Any) -> OnlineStore:
        """Return the store that the configuration names."""

    def write_columns(
        self,
        config: Any,
        table: Any,
        entities: Sequence[str],
        times_ms: NDArray[np.int64],
        numeric: NDArray[np.float64],
        texts: Sequence[Sequence[str]] = (),
    ) -> int:
        """Write n rows of a view with one text entity and fields of doubles and texts.

        Args:
            config: the feature store's configuration.
            table: the view.
            entities: n keys.
            times_ms: their event times, shape (n,), milliseconds since the epoch.
            numeric: the doubles, shape (n, double fields), in the view's order; NaN is missing.
            texts: n texts per text field, in the view's order; ``""`` is missing.

        Returns:
            How many rows were newer than what the store had, or as new.
        """
        (join_key,) = table.join_keys
        return self.opened(config).write(
            _name(config, table),
            entity_keys(join_key, entities),
            times_ms,
            layout_of(table).encode(numeric, texts),
            _ttl_ms(table),
        )

    def online_write_batch(
        self,
        config: Any,
        table: Any,
        data: Sequence[tuple[Any, dict[str, Any], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows as Feast hands them over: values of any type, one object per value."""
        layout = layout_of(table)
        self.opened(config).write(
            _name(config, table),
            [_key(config, entity) for entity, _, _, _ in data],
            np.array([_milliseconds(at) for _, _, at, _ in data], dtype=np.int64),
            [
                field_values({n: v.SerializeToString() for n, v in values.items()}, layout)
                for _, values, _, _ in data
            ],
            _ttl_ms(table),
        )
        if progress is not None:
            progress(len(data))

    def online_read(
        self,
        config: Any,
        table: Any,
        entity_keys: Sequence[Any],
        requested_features: Sequence[str] | None = None,
    ) -> list[Row]:
        """Return (event time, name → Value) per entity; (None, None) where missing or expired."""
        store, name, layout = self.opened(config), _name(config, table), layout_of(table)
        stored = store.read(name, [_key(config, entity) for entity in entity_keys])
        oldest_ms = self._oldest_ms(store, name, _ttl_ms(table))
        wanted = layout.names if requested_features is None else requested_features
        place = {field: i for i, field in enumerate(layout.names)}
        places = [(field, place[field]) for field in wanted if field in place]
        rows: list[Row] = []
        for found in stored:
            if found is None or found[0] < oldest_ms or found[1][:4] != layout.id:
                rows.append((None, None))
                continue
            values = RepeatedValue.FromString(found[1][4:]).val
            rows.append((_datetime(found[0]), {field: values[i] for field, i in places}))
        return rows

    def update(
        self,
        config: Any,
        tables_to_delete: Sequence[Any],
        tables_to_keep: Sequence[Any],
        entities_to_delete: Sequence[Any],
        entities_to_keep: Sequence[Any],
        partial: bool,
    ) -> None:
        """Follow the registry: make room for its views, remove what it has no more."""
        del entities_to_delete, entities_to_keep, partial
        store = self.opened(config)
        for table in tables_to_keep:
            store.create(_name(config, table))
        for table in tables_to_delete:
            store.drop(_name(config, table))

    def teardown(self, config: Any, tables: Sequence[Any], entities: Sequence[Any]) -> None:
        """Remove all views."""
        del entities
        store = self.opened(config)
        for table in tables:
            store.drop(_name(config, table))
        store.close()
        self._opened = None

    def opened(self, config: Any) -> OnlineStore:
        """Return the store, opened when first needed."""
        if self._opened is None:
            self._opened = self.open(config)
        return self._opened

    @staticmethod
    def _oldest_ms(store: OnlineStore, name: str, ttl_ms: int | None) -> int:
        """Return the event time before which rows have expired."""
        newest_ms = store.newest_ms(name) if ttl_ms is not None else None
        if ttl_ms is None or newest_ms is None:
            return _FIRST_MS
        return min(int(time.time() * 1000), newest_ms) - ttl_ms


class KappaSqliteOnlineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """``online_store`` with ``type: features.store.stores.KappaSqliteOnlineStore``."""

    type: Literal["features.store.stores.KappaSqliteOnlineStore"]
    path: str = FILE_NAME
    """The file; a relative path starts at the repository."""


class KappaSqliteOnlineStore(ColumnarStore):
    """Online features in a SQLite file."""

    def open(self, config: Any) -> OnlineStore:
        """Open the file."""
        return SqliteStore(Path(config.repo_path or ".") / config.online_store.path)


class KappaRedisOnlineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """``online_store`` with ``type: features.store.stores.KappaRedisOnlineStore``."""

    type: Literal["features.store.stores.KappaRedisOnlineStore"]
    address_from: str = "KAPPA_ONLINE_STORE"
    """The environment variable with the server's address: the file itself holds no password."""


class KappaRedisOnlineStore(ColumnarStore):
    """Online features in a Redis server."""

    def open(self, config: Any) -> OnlineStore:
        """Connect to the server."""
        variable = config.online_store.address_from
        address = from_environment(variable)
        if not address:
            raise ConfigurationError(
                f"the online features of {config.project} lie in Redis: set {variable} to its "
                "address, for example redis://127.0.0.1:6379/0"
            )
        return RedisStore(address)


def layout_of(table: Any) -> RowLayout:
    """Return the layout of a view's rows."""
    fields = [(field.name, str(field.dtype)) for field in table.features]
    others = [(name, kind) for name, kind in fields if kind != "Float64"]
    return RowLayout(
        tuple(name for name, kind in fields if kind == "Float64"),
        tuple(name for name, _ in others),
        tuple(kind for _, kind in others),
    )


def _name(config: Any, table: Any) -> str:
    return stored_name(config.project, table.name)


def _key(config: Any, entity: Any) -> bytes:
    made: bytes = serialize_entity_key(entity, config.entity_key_serialization_version)
    return made


def _ttl_ms(table: Any) -> int | None:
    return table.ttl // _MILLISECOND if table.ttl else None


def _milliseconds(at: datetime) -> int:
    """Return milliseconds since the epoch, a part of one as a whole; no time zone means UTC."""
    aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return -((_EPOCH - aware) // _MILLISECOND)


def _datetime(time_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=max(_FIRST_MS, min(time_ms, _LAST_MS)))
