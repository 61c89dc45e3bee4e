"""The Feast repository of a pipeline: registry, entities, views and sources, generated.

::

    <home>/feast/feature_store.yaml     where everything lies; an address of a server by reference
                 registry.db            Feast's registry
                 online.sqlite3         the online store, unless it is in Redis
                 history/features_v1/    the offline store: Parquet, by `kappa history`
                 kappa_definitions.py   what `feast apply` reads: the registry's own content
                 .feastignore           it imports nothing else
                 applied.json           which views were brought into the registry

Registries are changed under a file lock, since two ``apply`` at once lose what one of them wrote.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from features.definition import Definition
from features.store.views import View
from streams.errors import StateError
from streams.settings import Settings
from streams.stream import EventStream

HISTORY_TIME = "event_timestamp"
APPLY_TIMEOUT_S = 300.0

_DEFINITIONS = '''"""Made by kappa: what the registry holds, so that `feast apply` changes nothing.

Features are declared in the pipeline's file; the feature worker brings them here.
"""

from pathlib import Path

from features.store.registry import registered

globals().update(registered(Path(__file__).parent))
'''
_IGNORED = (
    "# All but kappa_definitions.py: `feast apply` imports every other module it finds.\n[!k]*\n"
)
_CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]); import features.store.registry as r; r.main()"
)


class _Plan(msgspec.Struct, frozen=True):
    """What a repository shall hold; plain, so that another process can be told."""

    folder: str
    configuration: str
    description: str
    history: str
    views: list[View]


def ensure_repository(
    folder: Path,
    project: str,
    definition: Definition,
    events: EventStream,
    views: Sequence[View],
    settings: Settings,
) -> None:
    """Bring the repository up to the views without importing Feast here.

    That takes seconds of processor time and 300,000 objects, which a worker would carry about: so
    a process of its own does it, and only where the repository's notes say that it must.

    Raises:
        StateError: Feast fails.
    """
    plan = _plan(folder, project, definition, events, views, settings)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / "apply.lock"):
        _write_files(plan)
        if _is_noted(plan):
            return
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CHILD, str(Path(__file__).parents[1])],
        input=msgspec.json.encode(plan),
        capture_output=True,
        timeout=APPLY_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise StateError(
            f"Feast can't make its registry in {folder} ({why}): the folder holds nothing that "
            "the log does not, so it may be deleted"
        )


def main() -> None:
    """Do what :func:`ensure_repository` asks on the standard input."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=_Plan)
    with _alone(Path(plan.folder) / "apply.lock"):
        if not _is_noted(plan):  # another worker may have asked for the same
            _apply(plan)


def open_repository(
    folder: Path,
    project: str,
    definition: Definition,
    events: EventStream,
    views: Sequence[View],
    settings: Settings,
) -> Any:
    """Return Feast's store on the repository, its registry brought up to the views."""
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / "apply.lock"):
        return _apply(_plan(folder, project, definition, events, views, settings))


def _plan(
    folder: Path,
    project: str,
    definition: Definition,
    events: EventStream,
    views: Sequence[View],
    settings: Settings,
) -> _Plan:
    return _Plan(
        folder=str(folder.resolve()),
        configuration=_configuration(project, settings),
        description=f"definition v{definition.version}, hash {definition.hash(events)}",
        history=str(history_path(definition.version)),
        views=list(views),
    )


def _apply(plan: _Plan) -> Any:
    """Bring the registry up to the plan; the caller holds the lock."""
    from feast import FeatureStore

    _write_files(plan)
    store = FeatureStore(repo_path=plan.folder)
    known = {view.name: view for view in store.list_feature_views()}
    missing = [v for v in plan.views if not _is_same(known.get(v.name), v, plan.description)]
    if missing:
        store.apply([made for view in missing for made in _objects(view, plan)])
    _note(plan)
    return store


def _write_files(plan: _Plan) -> None:
    folder = Path(plan.folder)
    _write(folder / "feature_store.yaml", plan.configuration)
    _write(folder / ".feastignore", _IGNORED)
    _write(folder / "kappa_definitions.py", _DEFINITIONS)


def _is_noted(plan: _Plan) -> bool:
    """Return whether the registry was brought up to all of the plan's views before."""
    notes = _notes(plan)
    registry = Path(plan.folder) / "registry.db"
    return registry.exists() and all(notes.get(v.name) == _noted(v, plan) for v in plan.views)


def _note(plan: _Plan) -> None:
    notes = _notes(plan) | {view.name: _noted(view, plan) for view in plan.views}
    _write(Path(plan.folder) / "applied.json", msgspec.json.encode(notes).decode())


def _notes(plan: _Plan) -> dict[str, Any]:
    try:
        return msgspec.json.decode((Path(plan.folder) / "applied.json").read_bytes(), type=dict)
    except (OSError, msgspec.DecodeError):
        return {}


def _noted(view: View, plan: _Plan) -> str:
    return msgspec.json.encode([view, plan.description, plan.history]).decode()


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
        online = "  type: features.store.stores.KappaSqliteOnlineStore\n"
    else:
        online = (
            "  type: features.store.stores.KappaRedisOnlineStore\n"
            "  address_from: KAPPA_ONLINE_STORE  # the environment variable with the address\n"
        )
    return (
        f"project: {project}\nprovider: local\n"
        "registry:\n  registry_type: file\n  path: registry.db\n  cache_ttl_seconds: 0\n"
        f"online_store:\n{online}"
        "offline_store:\n  type: features.store.offline.KappaFileOfflineStore\n"
        "entity_key_serialization_version: 3\n"
    )


def _objects(view: View, plan: _Plan) -> list[Any]:
    from feast import Entity, FeatureView, Field, FileSource, PushSource
    from feast.types import Float64, String
    from feast.value_type import ValueType

    entity = Entity(name=view.entity, join_keys=[view.entity], value_type=ValueType.STRING)
    offline = FileSource(
        name=f"{view.name}_history",
        path=plan.history,
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
        description=plan.description,
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
