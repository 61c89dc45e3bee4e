"""The Feast repository of a pipeline: registry, entities, views and sources, generated.

::

    <home>/feast/feature_store.yaml     where everything lies; an address of a server by reference
                 registry.db            Feast's registry
                 online.sqlite3         the online store, unless it is in Redis
                 history/features_v1/    the offline store: Parquet, by `kappa history`
                 kappa_definitions.py   what `feast apply` reads: the registry's own content
                 .feastignore           it imports nothing else

Registries are changed under a file lock, since two ``apply`` at once lose what one of them wrote.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from features.definition import Definition
from features.online_views import View
from streams.settings import Settings
from streams.stream import EventStream

HISTORY_TIME = "event_timestamp"

_DEFINITIONS = '''"""Made by kappa: what the registry holds, so that `feast apply` changes nothing.

Features are declared in the pipeline's file; the feature worker brings them here.
"""

from pathlib import Path

from features.feast_registry import registered

globals().update(registered(Path(__file__).parent))
'''
_IGNORED = (
    "# All but kappa_definitions.py: `feast apply` imports every other module it finds.\n[!k]*\n"
)


def open_repository(
    folder: Path,
    project: str,
    definition: Definition,
    events: EventStream,
    views: Sequence[View],
    settings: Settings,
) -> Any:
    """Return Feast's store on the repository, its registry brought up to the views."""
    from feast import FeatureStore

    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / "apply.lock"):
        _write(folder / "feature_store.yaml", _configuration(project, settings))
        _write(folder / ".feastignore", _IGNORED)
        _write(folder / "kappa_definitions.py", _DEFINITIONS)
        store = FeatureStore(repo_path=str(folder))
        known = {view.name: view for view in store.list_feature_views()}
        described = f"definition v{definition.version}, hash {definition.hash(events)}"
        missing = [view for view in views if not _is_same(known.get(view.name), view, described)]
        if missing:
            history = history_path(definition.version)
            store.apply([made for view in missing for made in _objects(view, described, history)])
    return store


def registered(folder: Path) -> dict[str, Any]:
    """Return name → object of all that the registry in ``folder`` holds."""
    from feast import FeatureStore

    store = FeatureStore(repo_path=str(folder))
    entities = [entity for entity in store.list_entities() if not entity.name.startswith("__")]
    groups = {
        "entity": entities,
        "source": store.list_data_sources(),
        "view": store.list_feature_views(),
    }
    return {f"{kind}_{one.name}": one for kind, group in groups.items() for one in group}


def history_path(version: int) -> Path:
    """Return where the offline rows of a definition's views lie, seen from the repository."""
    return Path("history") / f"features_v{version}"


def _configuration(project: str, settings: Settings) -> str:
    if settings.online_store_address is None:
        online = "  type: features.feast_stores.KappaSqliteOnlineStore\n"
    else:
        online = (
            "  type: features.feast_stores.KappaRedisOnlineStore\n"
            "  address_from: KAPPA_ONLINE_STORE  # the environment variable with the address\n"
        )
    return (
        f"project: {project}\nprovider: local\n"
        "registry:\n  registry_type: file\n  path: registry.db\n  cache_ttl_seconds: 0\n"
        f"online_store:\n{online}"
        "offline_store:\n  type: features.feast_offline.KappaFileOfflineStore\n"
        "entity_key_serialization_version: 3\n"
    )


def _objects(view: View, description: str, history: Path) -> list[Any]:
    from feast import Entity, FeatureView, Field, FileSource, PushSource
    from feast.types import Float64, String
    from feast.value_type import ValueType

    entity = Entity(name=view.entity, join_keys=[view.entity], value_type=ValueType.STRING)
    offline = FileSource(
        name=f"{view.name}_history",
        path=str(history),
        timestamp_field=HISTORY_TIME,
    )
    source = PushSource(name=f"{view.name}_stream", batch_source=offline)
    fields = [
        Field(name=name, dtype=Float64 if numeric else String)
        for name, numeric in zip(view.names, view.is_numeric, strict=True)
    ]
    made = FeatureView(
        name=view.name,
        entities=[entity],
        schema=[Field(name=view.entity, dtype=String), *fields],
        source=source,
        ttl=timedelta(milliseconds=view.ttl_ms or 0),
        online=True,
        description=description,
    )
    return [entity, offline, source, made]


def _is_same(known: Any, view: View, description: str) -> bool:
    return (
        known is not None
        and known.description == description
        and tuple(field.name for field in known.features) == view.names
        and (known.ttl or timedelta(0)) == timedelta(milliseconds=view.ttl_ms or 0)
    )


def _write(path: Path, text: str) -> None:
    """Put a file in the place of the one before; nothing where it says the same."""
    if path.exists() and path.read_text() == text:
        return
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    draft.replace(path)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
