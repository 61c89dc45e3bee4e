"""What is left of definitions that nobody uses any more, and its removal.

Kept are the definitions that the pipeline's file declares, the one that answers, and the one that
answered before it, which a cut-over may go back to. Source topics, predictions, models and the
logs of control are nobody's leftovers.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import fields

from features.store.removal import online_views, remove_views
from features.store.table import store_folder
from serving.definitions import cutovers_of
from serving.pipeline import Pipeline
from streams.errors import ConfigurationError, StateError
from streams.group_offsets import has_members
from streams.removal import TopicSize, delete_groups, delete_topics, group_names, topic_sizes
from streams.settings import Settings

_ROLES = ("features", "inference", "shadow", "monitor", "trainer")
_NO_FIELDS = {
    "events", "labels", "predictions", "alerts", "metrics", "models", "commands", "schemas",
    *_ROLES,
}  # fmt: skip


@dataclass(frozen=True)
class Retired:
    """What can be removed. Sizes of folders are bytes; ``remote`` are addresses in a store."""

    definitions: list[int] = field(default_factory=list)
    topics: dict[str, TopicSize] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    folders: dict[Path, int] = field(default_factory=dict)
    remote: dict[str, int] = field(default_factory=dict)
    views: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Return whether there is anything."""
        return bool(self.topics or self.groups or self.folders or self.remote or self.views)


def kept_definitions(bootstrap: str, pipeline: Pipeline, going_back: bool = True) -> dict[int, str]:
    """Return version → why it is kept.

    ``going_back``: whether the one that answered before the last cut-over is.

    Raises:
        BrokerError: the control log can't be read.
    """
    kept = {definition.version: "declared" for definition in pipeline.definitions}
    cutovers = cutovers_of(bootstrap, pipeline)
    if cutovers.orders:
        last = cutovers.orders[-1]
        if going_back:
            kept.setdefault(last.before, f"answered before v{last.definition}: to go back to")
        kept.setdefault(last.definition, "answers")
    return kept


def find_retired(
    bootstrap: str,
    pipeline: Pipeline,
    home: Path,
    kept: Iterable[int],
    training_older_s: float,
) -> Retired:
    """Return what belongs to other definitions than ``kept``, and trainings given up.

    Args:
        bootstrap: the brokers.
        pipeline: the pipeline; what has not its name is left alone.
        home: its folder.
        kept: versions.
        training_older_s: working folders of trainings in which nothing was written for so many
            seconds are of trainings that failed or were broken off; joined examples that nobody
            used for so long can be joined again.

    Raises:
        BrokerError: the broker does not answer.
        StateError: the store of snapshots or of online rows can't be looked into.
    """
    names = _Names(pipeline, set(kept))
    topics = topic_sizes(bootstrap, names.is_retired_topic)
    groups = [name for name in group_names(bootstrap) if names.is_retired_group(name)]
    states = Settings().snapshots_of(pipeline.name, home)
    remote = {} if isinstance(states, Path) else _remote(states, names.is_retired_state)
    folders = [
        *(_matching(states, names.is_retired_state) if isinstance(states, Path) else ()),
        *_matching(home / "skew", names.is_retired_state),
        *_matching(home / "segments", names.is_retired_topic),
        *_matching(store_folder(home) / "history", names.is_retired_view),
        *(f for f in _of_trainings(home) if _age_s(f) >= training_older_s),
    ]
    views = online_views(home, names.is_retired_view)
    sizes = {folder: _bytes(folder) for folder in folders}
    return Retired(sorted(names.met), topics, groups, sizes, remote, views)


def remove_retired(bootstrap: str, pipeline: Pipeline, home: Path, retired: Retired) -> None:
    """Remove what was found; states first, so that nothing is left that trusts what is gone.

    Raises:
        ConfigurationError: a process of a retired definition still runs; nothing is removed.
        BrokerError: the broker refuses.
        StateError: the store of snapshots or of online rows refuses.
    """
    busy = [group for group in retired.groups if has_members(bootstrap, group)]
    if busy:
        raise ConfigurationError(
            f"a process of {', '.join(busy)} still runs: stop it (restart kappa up), or declare "
            "its definition again"
        )
    for folder in retired.folders:
        shutil.rmtree(folder, ignore_errors=True)
    for address in retired.remote:
        _remove_remote(address)
    remove_views(home, pipeline.name, retired.views)
    delete_groups(bootstrap, retired.groups)
    delete_topics(bootstrap, list(retired.topics))


class _Names:
    """Tells by its name whether a thing belongs to a definition that is not kept."""

    def __init__(self, pipeline: Pipeline, kept: set[int]) -> None:
        declared = {f.name for f in fields(pipeline.events.type)}
        event_fields = "|".join(sorted(map(re.escape, declared - _NO_FIELDS)))
        roles = "|".join(_ROLES)
        name = re.escape(pipeline.name)
        self._kept = kept
        self._never = {spec.name for spec in pipeline.topic_specs}
        self._topic = re.compile(rf"{name}\.(?:features|{event_fields})\.v(\d+)")
        self._group = re.compile(
            rf"{name}\.(?:{roles}|skew-features|(?:skew-)?features-(?:{event_fields}))\.v(\d+)"
        )
        self._state = re.compile(
            rf"(?:features(?:-(?:{event_fields}))?|histories-(?:{roles}))-v(\d+)"
        )
        self._view = re.compile(rf"features_v(\d+)(?:_(?:{event_fields}))?")
        self.met: set[int] = set()

    def is_retired_topic(self, name: str) -> bool:
        return name not in self._never and self._is_retired(self._topic, name)

    def is_retired_group(self, name: str) -> bool:
        return self._is_retired(self._group, name)

    def is_retired_state(self, name: str) -> bool:
        return self._is_retired(self._state, name)

    def is_retired_view(self, name: str) -> bool:
        return self._is_retired(self._view, name)

    def _is_retired(self, pattern: re.Pattern[str], name: str) -> bool:
        found = pattern.fullmatch(name)
        if found is None or int(found[1]) in self._kept:
            return False
        self.met.add(int(found[1]))
        return True


def _matching(folder: Path, is_wanted: Callable[[str], bool]) -> Iterator[Path]:
    return (path for path in _below(folder) if is_wanted(path.name))


def _of_trainings(home: Path) -> list[Path]:
    return [*_below(home / "training"), *_below(home / "examples"), *home.glob(".verify-*")]


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _remote(address: str, is_wanted: Callable[[str], bool]) -> dict[str, int]:
    """Return address → bytes of the folders below an address whose name is wanted."""
    from fsspec.core import url_to_fs

    try:
        store, path = url_to_fs(address)
        if not store.exists(path):
            return {}
        names = [
            str(found).rstrip("/").rpartition("/")[2] for found in store.ls(path, detail=False)
        ]
        return {
            f"{address}/{name}": int(store.du(f"{path}/{name}"))
            for name in sorted(filter(is_wanted, names))
        }
    except OSError as error:
        raise StateError(f"the snapshots at {address} can't be listed: {error}") from error


def _remove_remote(address: str) -> None:
    from fsspec.core import url_to_fs

    try:
        store, path = url_to_fs(address)
        store.rm(path, recursive=True)
    except OSError as error:
        raise StateError(f"the snapshots at {address} can't be removed: {error}") from error


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _age_s(folder: Path) -> float:
    """Return how long ago anything in the folder was written, in seconds."""
    newest_s = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
    return time.time() - newest_s
