"""Taking feature views out of the online store and out of Feast's registry."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from features.store.columnar import open_store
from features.store.table import store_folder
from features.store.views import stored_name
from streams.errors import StateError
from streams.settings import Settings

_SOURCES = ("stream", "history")
_VERSION = re.compile(rb"features_v\d+")


def online_views(home: Path, is_wanted: Callable[[str], bool]) -> list[str]:
    """Return the names of the views in the registry of the pipeline in ``home`` that are wanted.

    Feast, which takes seconds to import, is asked only where the registry's bytes name a version
    that is wanted.

    Raises:
        StateError: the registry can't be read.
    """
    registry = store_folder(home) / "registry.db"
    if not registry.exists():
        return []
    named = {found.decode() for found in _VERSION.findall(registry.read_bytes())}
    if not any(map(is_wanted, named)):
        return []
    try:
        from feast import FeatureStore

        listed = FeatureStore(repo_path=str(store_folder(home))).list_feature_views()
    except Exception as error:
        raise StateError(f"Feast can't read {registry}: {error}") from error
    return sorted(view.name for view in listed if is_wanted(view.name))


def remove_views(home: Path, project: str, names: Sequence[str]) -> None:
    """Remove views: their rows, and what the registry says of them; those gone are no error.

    Raises:
        StateError: the store or the registry refuses.
    """
    if not names:
        return
    folder = store_folder(home)
    rows = open_store(folder, Settings())
    try:
        for name in names:
            rows.drop(stored_name(project, name))
    finally:
        rows.close()
    try:
        from feast import FeatureStore

        with (folder / "apply.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two changes at once lose what one of them wrote
            store = FeatureStore(repo_path=str(folder))
            registry, sources = store.registry, {f"{n}_{p}" for n in names for p in _SOURCES}
            for view in store.list_feature_views():
                if view.name in names:
                    registry.delete_feature_view(view.name, store.project)
            for source in store.list_data_sources():
                if source.name in sources:
                    registry.delete_data_source(source.name, store.project)
    except Exception as error:
        raise StateError(
            f"Feast can't remove {', '.join(names)} from the registry in {folder}: {error}"
        ) from error
