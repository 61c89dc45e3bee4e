"""Where a router gets its models from: loaded while all waits, or beside the answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Protocol

from serving.inference.answers import Predict
from streams.wire import Registered

Loader = Callable[[Registered], Predict]
"""Loads the model of a registered version; whatever it raises refuses the version."""


class Models(Protocol):
    """The models at hand, by version."""

    def get(self, registered: Registered, wait: bool) -> Predict | None:
        """Return the model, ready to answer; None while it is being loaded, but not if ``wait``.

        Raises what the loading raised, once; asked again it tries again.
        """

    def have(self, versions: Collection[Registered]) -> None:
        """Have these at hand, and no others; what is loading and not named may be dropped."""


class Loaded:
    """Models that are loaded when they are asked for, while all else waits."""

    def __init__(self, load: Loader) -> None:
        self._load = load
        self._models: dict[tuple[int, str], Predict] = {}

    def get(self, registered: Registered, wait: bool) -> Predict | None:  # noqa: ARG002
        """Return the model."""
        key = (registered.version, registered.sha256)
        if key not in self._models:
            self._models[key] = self._load(registered)
        return self._models[key]

    def have(self, versions: Collection[Registered]) -> None:
        """Drop all others."""
        keep = {(of.version, of.sha256) for of in versions}
        self._models = {key: model for key, model in self._models.items() if key in keep}


class LoadedBeside:
    """Models that are loaded in a thread of their own, one after the other, while others answer.

    What has failed is told once, to who asks for it; until then it is not tried again.
    """

    def __init__(self, load: Loader) -> None:
        self._load = load
        self._one_at_a_time = threading.Lock()
        self._loads: dict[tuple[int, str], _Load] = {}

    def get(self, registered: Registered, wait: bool) -> Predict | None:
        """Return the model; None while it is being loaded, but not if ``wait``."""
        found = self._begun(registered)
        if wait:
            found.done.wait()
        if not found.done.is_set():
            return None
        if found.error is not None:
            del self._loads[_key(registered)]
            raise found.error
        return found.model

    def have(self, versions: Collection[Registered]) -> None:
        """Begin to load what is missing, and drop all others."""
        for registered in versions:
            self._begun(registered)
        keep = set(map(_key, versions))
        self._loads = {key: each for key, each in self._loads.items() if key in keep}

    def _begun(self, registered: Registered) -> _Load:
        key = _key(registered)
        if key not in self._loads:
            self._loads[key] = begun = _Load()
            # A daemon: a worker that ends does not wait for a model that nobody will ask.
            threading.Thread(
                target=self._run, args=(begun, registered), name=f"load-{key[0]}", daemon=True
            ).start()
        return self._loads[key]

    def _run(self, begun: _Load, registered: Registered) -> None:
        try:
            with self._one_at_a_time:
                begun.model = self._load(registered)
        except Exception as error:  # whatever is wrong with a package: it is told to who asks
            begun.error = error
        finally:
            begun.done.set()


class _Load:
    """A load under way, or what came of it; read after ``done``."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.model: Predict | None = None
        self.error: Exception | None = None


def _key(registered: Registered) -> tuple[int, str]:
    return registered.version, registered.sha256
