"""The rollout as MLflow's registry shows it: versions with stage tags, and aliases.

The models topic is the truth; the registry is brought to what it says, again and again, so one
that was down, or that somebody changed by hand, catches up. A version of the pipeline is the
registry's version whose tags name it and its package's SHA-256 (the numbers of the two need not be
the same). Aliases: ``live`` is what answers, ``canary`` and ``shadow`` the newest in these stages,
and of a pipeline whose models are of several definitions ``live-on-<definition>`` what is live on
each.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from streams.rollout import Rollout

VERSION, SHA256, DEFINITION, STAGE = (
    f"kappa.{name}" for name in ("version", "sha256", "definition", "stage")
)
GONE = "gone"
"""Stage of a version that the log does not know: the pipeline was begun anew."""

OURS = ("live", "canary", "shadow")
AGAIN_S = 60.0
"""How long a mirror waits after it failed."""


@dataclass(frozen=True, slots=True)
class VersionTags:
    """What a version of the pipeline is recognised by, and the definition it answers."""

    version: int
    sha256: str
    definition: int

    def to_tags(self) -> dict[str, str]:
        """Return the tags."""
        return {
            VERSION: str(self.version), SHA256: self.sha256, DEFINITION: str(self.definition)
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version as the registry should show it; ``uri`` and ``run_id`` say where it came from."""

    tags: VersionTags
    stage: str
    uri: str
    run_id: str | None


@dataclass(frozen=True, slots=True)
class Mirrored:
    """All versions, and alias → version of the pipeline."""

    versions: tuple[Wanted, ...] = ()
    aliases: dict[str, int] = field(default_factory=dict)


def desired(rollout: Rollout) -> Mirrored:
    """Return what the registry should show."""
    versions = tuple(
        Wanted(
            VersionTags(number, of.sha256, of.definition),
            _stage(rollout, number),
            of.uri,
            of.run_id,
        )
        for number, of in sorted(rollout.versions.items())
    )
    aliases: dict[str, int] = {}
    if rollout.live:
        aliases["live"] = rollout.live
    canaries = [arm.version for of in rollout.routings if (arm := rollout.canary(of)) is not None]
    if canaries:
        aliases["canary"] = max(canaries)
    if rollout.shadows:
        aliases["shadow"] = max(rollout.shadows)
    lives = {of: number for of, number in rollout.lives.items() if number}
    if len({of.definition for of in rollout.versions.values()}) > 1:
        aliases |= {f"live-on-{of}": number for of, number in sorted(lives.items())}
    return Mirrored(versions, aliases)


def _stage(rollout: Rollout, version: int) -> str:
    stage = rollout.stages.get(version)
    if stage in ("canary", "experiment", "rolled_back"):
        return stage
    if version in rollout.shadows:
        return "shadow"
    if version == rollout.live:
        return "live"
    if version in rollout.lives.values():
        return "live on its definition"
    return "archived"


def apply(client: Any, name: str, wanted: Mirrored) -> None:
    """Bring the registered model ``name`` to ``wanted``; ``client`` is an ``MlflowClient``."""
    found = {_key(version): version for version in all_versions(client, name)}
    numbers: dict[int, str] = {}
    for of in wanted.versions:
        key = (str(of.tags.version), of.tags.sha256)
        version = found.pop(key, None)
        if version is None:
            source = of.uri if of.run_id is None else f"runs:/{of.run_id}/package"
            version = ensure_version(client, name, of.tags, source, of.run_id)
        numbers[of.tags.version] = str(version.version)
        _tag(client, name, version, {**of.tags.to_tags(), STAGE: of.stage})
    for version in found.values():  # what is left is not of this log
        if version.tags.get(STAGE) is not None:
            _tag(client, name, version, {STAGE: GONE})
    _set_aliases(client, name, {alias: numbers[of] for alias, of in wanted.aliases.items()})


def ensure_version(
    client: Any, name: str, tags: VersionTags, source: str, run_id: str | None
) -> Any:
    """Return the registry's version of ``tags``, created from ``source`` where there is none."""
    for version in all_versions(client, name):
        if _key(version) == (str(tags.version), tags.sha256):
            return version
    return client.create_model_version(name, source, run_id, tags=tags.to_tags())


def all_versions(client: Any, name: str) -> Iterable[Any]:
    """Yield all versions of the registered model, newest first."""
    token = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _key(version: Any) -> tuple[str | None, str | None]:
    return version.tags.get(VERSION), version.tags.get(SHA256)


def _tag(client: Any, name: str, version: Any, tags: dict[str, str]) -> None:
    for key, value in tags.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(name, version.version, key, value)


def _set_aliases(client: Any, name: str, wanted: dict[str, str]) -> None:
    """Set the aliases that differ, and take away ours that are wanted no more; others stay."""
    there = {
        alias: str(number) for alias, number in client.get_registered_model(name).aliases.items()
    }
    for alias, number in wanted.items():
        if there.get(alias) != number:
            client.set_registered_model_alias(name, alias, number)
    for alias in there.keys() - wanted.keys():
        if alias in OURS or alias.startswith("live-on-"):
            client.delete_registered_model_alias(name, alias)


class RegistryMirror:
    """Brings a registered model to the newest rollout that it was told, by one job at a time.

    Args:
        submit: runs the job elsewhere.
        client: returns the ``MlflowClient``, None where MLflow could not be opened.
        name: of the registered model.
    """

    def __init__(
        self, submit: Callable[[Callable[[], None]], object], client: Callable[[], Any], name: str
    ) -> None:
        self._submit, self._client, self._name = submit, client, name
        self._lock = threading.Lock()
        self._wanted, self._shown = Mirrored(), Mirrored()
        self._is_busy, self._again_s = False, 0.0

    def tell(self, rollout: Rollout) -> None:
        """Take a rollout; does not wait. After a failure the next trial comes later."""
        wanted = desired(rollout)
        with self._lock:
            self._wanted = wanted
            if self._is_busy or wanted == self._shown or time.monotonic() < self._again_s:
                return
            self._is_busy = True
        self._submit(self._work)

    def _work(self) -> None:
        try:
            while (wanted := self._next()) is not None:
                apply(self._client(), self._name, wanted)
                self._shown = wanted
        except Exception:
            self._again_s = time.monotonic() + AGAIN_S
            self._is_busy = False
            raise

    def _next(self) -> Mirrored | None:
        with self._lock:
            if self._client() is None:
                self._again_s = time.monotonic() + AGAIN_S
            elif self._wanted != self._shown:
                return self._wanted
            self._is_busy = False
            return None
