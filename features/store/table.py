"""The online store of a pipeline: what the feature worker writes, and Feast's SDK reads.

The worker's process never imports Feast, which takes eight seconds and leaves 300,000 objects: the
registry is made by a process of its own (:mod:`features.store.registry`), and rows go to the store
that :mod:`features.store.stores` is for Feast, in the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definition import Definition
from features.store.columnar import open_store
from features.store.registry import ensure_repository
from features.store.rows import entity_keys
from features.store.views import View, stored_name, view_name, view_of
from streams.errors import StateError
from streams.settings import Settings
from streams.stream import EventStream


@dataclass(frozen=True, slots=True)
class OnlineColumns:
    """Features of n entities, each at most once.

    ``event_times_ms`` (n,) milliseconds since the epoch; ``numeric`` (n, numeric features) with NaN
    for missing; ``categories`` n texts per category feature with ``""`` for missing. The features
    are the definition's, or those of the table alone, in declared order.
    """

    entities: list[str]
    event_times_ms: NDArray[np.int64]
    numeric: NDArray[np.float64]
    categories: list[list[str]]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.entities)

    def part(self, first: int, end: int) -> OnlineColumns:
        """Return the rows from ``first`` to before ``end``."""
        return OnlineColumns(
            self.entities[first:end],
            self.event_times_ms[first:end],
            self.numeric[first:end],
            [texts[first:end] for texts in self.categories],
        )


class OnlineTable:
    """One view of a definition in Feast. Not for several threads at once.

    Args:
        folder: where registry and online store lie; users open it with
            ``feast.FeatureStore(repo_path=folder)``.
        project: name of the pipeline.
        definition: its features become the view's fields: Float64 or String.
        events: names the entity.
        entity: the key whose view this is, where it is not the events' own.
        names: the features that it holds; by default those which the key's stage makes, see
            :func:`features.store.views.view_of`.
        ttl: for how long a row counts, in place of what follows from the windows; zero for ever.
        settings: which online store; by default the environment's.

    Raises:
        StateError: Feast can't make or open the store.
        ConfigurationError: the settings name no store that is known.
    """

    def __init__(
        self,
        folder: Path,
        project: str,
        definition: Definition,
        events: EventStream,
        *,
        entity: str | None = None,
        names: Sequence[str] | None = None,
        ttl: timedelta | None = None,
        settings: Settings | None = None,
    ) -> None:
        settings = settings or Settings()
        view = view_of(definition, events, entity, names)
        if ttl is not None:
            view = replace(view, ttl_ms=ttl // timedelta(milliseconds=1) or None)
        self._view = view
        self.view = view.name
        self._numbers = _places(definition.names("numeric"), view)
        self._texts = _places(definition.names("category"), view)
        self._widths = len(definition.names("numeric")), len(definition.names("category"))
        self._name = stored_name(project, view.name)
        self._layout = view.layout
        ensure_repository(folder, project, definition, events, [view], settings)
        self._store = open_store(folder, settings)
        self._store.create(self._name)

    def write(self, columns: OnlineColumns) -> int:
        """Put each row in the place of what its entity had, unless that is newer.

        Returns:
            How many rows were not too late.

        Raises:
            StateError: the store refuses; writing again does no harm.
        """
        numeric, texts = columns.numeric, columns.categories
        if (numeric.shape[1], len(texts)) == self._widths:
            numeric = numeric[:, self._numbers]
            texts = [texts[place] for place in self._texts]
        return self._store.write(
            self._name,
            entity_keys(self._view.entity, columns.entities),
            columns.event_times_ms,
            self._layout.encode(numeric, texts),
            self._view.ttl_ms,
        )


def store_folder(home: Path) -> Path:
    """Return where the pipeline whose state lies in ``home`` has its Feast repository."""
    return home / "feast"


def read_online(
    home: Path, definition: Definition, events: EventStream, entity: str
) -> dict[str, Any]:
    """Return feature → value of an entity through Feast's SDK; all None where it is unknown.

    :class:`features.store.reader.OnlineReader` is the quick way, and takes requests.

    Raises:
        StateError: there is no online store yet.
    """
    folder = store_folder(home)
    if not (folder / "feature_store.yaml").exists():
        raise StateError(f"no online store in {folder}: the feature worker makes it (`kappa up`)")
    from feast import FeatureStore

    view, names = view_name(definition, events), list(view_of(definition, events).names)
    found = FeatureStore(repo_path=str(folder)).get_online_features(
        features=[f"{view}:{name}" for name in names], entity_rows=[{events.entity: entity}]
    )
    columns = found.to_dict()
    return {name: columns[name][0] for name in names}


def _places(names: list[str], view: View) -> list[int]:
    return [place for place, name in enumerate(names) if name in view.names]
