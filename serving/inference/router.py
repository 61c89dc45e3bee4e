"""Which model versions answer: a fold over the control log that loads what it names.

The worker that uses it asks between two batches, so a version answers whole batches.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import structlog

from serving.inference.answers import Asked, Predict, last_of
from streams.errors import ModelError
from streams.rollout import Rollout
from streams.wire import (
    Activated,
    DefinitionChanged,
    ModelEvent,
    Positions,
    Registered,
    Stage,
    StageChanged,
)
from training.answers import Answers
from training.networks.tasks import Binary, MultiClass, Task

if TYPE_CHECKING:
    from training.package import Package

_BINARY = Binary()

Role = Literal["inference", "shadow"]
Loader = Callable[[Registered], Predict]
"""Loads the model of a registered version; whatever it raises refuses the version."""

_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answering:
    """A version that answers the features of ``definition``; ``since`` are the first features
    offsets it does (absent: any)."""

    version: int
    stage: Stage
    predict: Predict
    since: Positions
    definition: int = 1


class Router:
    """Says which versions answer for a role: on each definition the live one, or all in shadow.

    A version answers the features of the definition that it was trained on, and no others.

    A version that can't be loaded, or fails while answering, is set aside with an error in the log;
    live goes to the version that was live before, at last to the prior (version 0). It is tried
    again when it is registered anew, or after a restart.

    A live version that sees an entity's last events waits for them: while ``is_ready(definition,
    how many)`` says no, the version before it goes on answering. ``waiting`` says what is waited
    for, and :meth:`refresh` asks again.
    """

    def __init__(
        self,
        role: Role,
        worker: str,
        prior: float,
        load: Loader,
        definitions: Sequence[int] = (1,),
        task: Task = _BINARY,
    ) -> None:
        self._role, self._worker, self._load = role, worker, load
        self._definitions = tuple(definitions)
        self.task, self._prior = task, prior_model(prior, task)
        self.rollout = Rollout()
        self._lives: dict[int, list[int]] = {}
        self._failed: set[int] = set()
        self._loaded: dict[int, Predict] = {}
        self._activated: dict[tuple[int, Stage], dict[str, Positions]] = {}
        self._answering: list[Answering] = []
        self.is_ready: Callable[[int, int], bool] = lambda *_: True
        self.waiting: dict[int, int] = {}
        self._choose()

    @property
    def answering(self) -> list[Answering]:
        """The versions that answer now, by definition and number."""
        return self._answering

    def of(self, definition: int) -> list[Answering]:
        """Return the versions that answer the features of a definition."""
        return [chosen for chosen in self._answering if chosen.definition == definition]

    def follow(self, events: Iterable[ModelEvent]) -> None:
        """Take in what the control log says next, in log order, and load what is new."""
        before = self.rollout
        for event in events:
            self.rollout = self.rollout.apply(event)
            match event:
                case Registered():
                    self._failed.discard(event.version)
                    self._loaded.pop(event.version, None)
                case StageChanged():
                    # What was activated in an earlier turn of this stage counts no more.
                    self._activated.pop((event.version, event.stage), None)
                    of = self.rollout.versions.get(event.version)
                    if event.stage == "live" and of is not None:
                        self._lives.setdefault(of.definition, []).append(event.version)
                case DefinitionChanged() if self.rollout.cutovers.orders[-1:] == (event,):
                    self._activated.pop((event.model_version, "live"), None)
                    self._lives.setdefault(event.definition, []).append(event.model_version)
                case Activated():
                    turn = self._activated.setdefault((event.version, event.stage), {})
                    turn[event.worker] = event.positions
                case _:
                    pass
        if self.rollout is not before:
            self._choose()

    def refresh(self) -> None:
        """Ask again whether what is waited for is ready."""
        if self.waiting:
            self._choose()

    def set_aside(self, version: int, reason: Exception) -> None:
        """Stop answering with ``version``, which failed."""
        _LOG.error("model version set aside", version=version, role=self._role, error=str(reason))
        self._failed.add(version)
        before = {chosen.version for chosen in self._answering}
        self._choose()
        for chosen in self._answering:  # a fall-back begins a new turn of that version
            if chosen.version not in before:
                self._activated.pop((chosen.version, chosen.stage), None)

    def to_announce(self, positions: Mapping[int, int], definition: int = 1) -> list[Activated]:
        """Return what the control log does not say yet of the versions that answer.

        ``positions`` are the next offsets of the partitions read of the definition's features. A
        partition that came from another worker, which had announced the version for it, needs no
        new record.
        """
        if not positions:
            return []
        news = (self._news(a, positions) for a in self.of(definition) if a.version)
        return [event for event in news if event is not None]

    def _news(self, chosen: Answering, positions: Mapping[int, int]) -> Activated | None:
        turn = self._activated.get((chosen.version, chosen.stage), {})
        own = turn.get(self._worker)
        said = {partition for at in turn.values() for partition in at}
        missing = {
            str(partition): max(offset, chosen.since.get(str(partition), 0))
            for partition, offset in sorted(positions.items())
            if own is None or str(partition) not in said
        }
        if not missing:
            return None
        return Activated(chosen.version, chosen.stage, self._worker, {**(own or {}), **missing})

    def _choose(self) -> None:
        self.waiting = {}
        if self._role == "inference":
            chosen = [self._live(definition) for definition in self._definitions]
        else:
            chosen = [a for v in sorted(self.rollout.shadows) if (a := self._shadow(v)) is not None]
        self._answering = chosen
        # The version before the live one stays at hand, to fall back on.
        keep = {a.version for a in chosen}.union(*(lives[-2:] for lives in self._lives.values()))
        self._loaded = {v: model for v, model in self._loaded.items() if v in keep}

    def _live(self, definition: int) -> Answering:
        for version in reversed(self._lives.get(definition, [])):
            model = self._prior if version == 0 else self._model(version)
            if model is not None and self._knows_enough(version, definition, last_of(model)):
                return Answering(version, "live", model, {}, definition)
        return Answering(0, "live", self._prior, {}, definition)

    def _knows_enough(self, version: int, definition: int, last: int) -> bool:
        if any((a.version, a.definition) == (version, definition) for a in self._answering):
            return True  # what answers does not step back
        if not last or self.is_ready(definition, last):
            return True
        self.waiting[definition] = max(last, self.waiting.get(definition, 0))
        return False

    def _shadow(self, version: int) -> Answering | None:
        definition = self.rollout.versions[version].definition
        model = self._model(version) if definition in self._definitions else None
        if model is None:
            return None
        return Answering(version, "shadow", model, self.rollout.shadows[version], definition)

    def _model(self, version: int) -> Predict | None:
        if version in self._failed:
            return None
        if version not in self._loaded:
            try:
                self._loaded[version] = self._load(self.rollout.versions[version])
            except Exception as error:  # whatever is wrong with a package, answers must go on
                _LOG.error("model version not loaded", version=version, error=repr(error))
                self._failed.add(version)
                return None
        return self._loaded[version]


def prior_model(prior: float, task: Task = _BINARY) -> Predict:
    """Return version 0: the same answer to every row.

    It is the probability ``prior``; of several classes that all are equally likely; of a regression
    the mean ``prior``, of which nobody can say how far off it is.
    """

    def predict(rows: Asked) -> Answers:
        if isinstance(task, MultiClass):
            count = len(task.classes)
            return Answers.of_classes(np.full((len(rows), count), 1 / count))
        return Answers(np.full(len(rows), prior))

    return predict


def packaged_models(allowed: Collection[str] = (), task: Task = _BINARY) -> Loader:
    """Return the loader of model packages; imports torch now, so that no switch waits for it.

    ``allowed`` are the networks of the user's own that the pipeline file declares: those of a
    package that names another are not imported. A model of another task than ``task`` is refused.
    """
    from training.package import load_package

    def load(event: Registered) -> Predict:
        package = load_package(event.uri, event.sha256, allowed)
        if package.task != task:
            raise ModelError(
                f"model {event.version} was trained for {package.task}, and the pipeline file "
                f"declares {task}: train a model for it"
            )
        return Packaged(package)

    return load


class Packaged:
    """The model of a package; ``last`` says how many events of an entity it sees, 0 for one."""

    def __init__(self, package: Package) -> None:
        self.last, self._package = package.last, package

    def __call__(self, rows: Asked) -> Answers:
        """Return the answers to n rows, or to n histories."""
        return self._package.answers(rows)
