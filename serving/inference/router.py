"""Which model versions answer whom: a fold over the control log that has them loaded.

The worker that uses it asks between two batches, so a routing answers whole batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from serving.inference.announcing import Announcer
from serving.inference.answers import Predict, last_of
from serving.inference.loading import Models
from serving.inference.prior import prior_model
from streams.rollout import Rollout
from streams.wire import (
    Activated,
    Arm,
    ModelEvent,
    Positions,
    Registered,
    Routing,
    Stage,
    StageChanged,
)
from training.networks.tasks import Binary, Task

_BINARY = Binary()

Role = Literal["inference", "shadow"]

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


@dataclass(frozen=True, slots=True)
class Panel:
    """Versions that share the entities of a definition by ``routing``: its arms, and the live one,
    which is the last of ``members``."""

    routing: Routing
    members: tuple[Answering, ...]

    @property
    def live(self) -> Answering:
        """The member that answers whom no arm does."""
        return self.members[-1]


class Router:
    """Says which versions answer for a role: on each definition the live one with the arms of its
    canary or experiment, or all in shadow.

    A version answers the features of the definition that it was trained on, and no others.

    A version that can't be loaded, or fails while answering, is set aside with an error in the log;
    live goes to the version that was live before, at last to the prior (version 0), and the
    entities of an arm to the live version. It is tried again when it is registered anew, or after a
    restart.

    A version that is being loaded, or sees an entity's last events and waits for them
    (``is_ready(definition, how many)`` says no), begins later: what answered before goes on.
    ``waiting`` says which histories are waited for, and :meth:`refresh` asks again. Nothing waits
    where what answers now was rolled back.
    """

    def __init__(
        self,
        role: Role,
        worker: str,
        prior: float,
        models: Models,
        definitions: Sequence[int] = (1,),
        task: Task = _BINARY,
    ) -> None:
        self._role, self._models = role, models
        self._definitions = tuple(definitions)
        self.task, self._prior = task, prior_model(prior, task)
        self.rollout = Rollout()
        self._announcer = Announcer(worker)
        self._failed: set[int] = set()
        self._loading: set[int] = set()
        self._panels: dict[int, list[Panel]] = {}
        self._settled = False
        self.is_ready: Callable[[int, int], bool] = lambda *_: True
        self.waiting: dict[int, int] = {}
        self._choose(wait=True)

    @property
    def answering(self) -> list[Answering]:
        """The versions that answer now, by definition and number; an arm's before the live one."""
        return [member for definition in self._panels for member in self.of(definition)]

    def panels(self, definition: int) -> list[Panel]:
        """Return who answers the features of a definition: one panel, in shadow one per version."""
        return self._panels.get(definition, [])

    def of(self, definition: int) -> list[Answering]:
        """Return the versions that answer the features of a definition."""
        return [member for panel in self.panels(definition) for member in panel.members]

    def follow(self, events: Iterable[ModelEvent]) -> None:
        """Take in what the control log says next, in log order, and load what is new."""
        before = self.rollout
        for event in events:
            self.rollout = self.rollout.apply(event)
            match event:
                case Registered():
                    self._failed.discard(event.version)
                case StageChanged(stage="shadow"):
                    self._announcer.begins(event.version)
                case Activated():
                    self._announcer.follow(event)
                case _:
                    pass
        if self.rollout is not before:
            self._choose(wait=not self._settled)

    def settle(self) -> None:
        """Begin anew from what the log says of partitions that have come, before they are read.

        Another worker may have announced a version for one, so it must answer from here on too:
        nothing is waited for.
        """
        self._settled = True
        self._announcer.settle(self.rollout)
        self._choose(wait=True)

    def refresh(self) -> None:
        """Ask again whether what is waited for is ready."""
        if self.waiting or self._loading:
            self._choose(wait=False)

    def set_aside(self, version: int, reason: Exception) -> None:
        """Stop answering with ``version``, which failed."""
        _LOG.error("model version set aside", version=version, role=self._role, error=str(reason))
        self._failed.add(version)
        self._choose(wait=True)  # the batch at hand needs another at once

    def to_announce(self, positions: Mapping[int, int], definition: int = 1) -> list[Activated]:
        """Return what the control log does not say yet of the versions that answer.

        ``positions`` are the next offsets of the partitions read of the definition's features. A
        partition that came from another worker, which had announced the same for it, needs no new
        record. What was said is to be told by :meth:`announced`.
        """
        if self._role == "inference":
            routings = [panel.routing for panel in self.panels(definition)]
            return [e for r in routings for e in self._announcer.live(definition, r, positions)]
        shadows = self.of(definition) if positions else []
        return [e for a in shadows for e in self._announcer.shadow(a.version, a.since, positions)]

    def announced(self, events: Sequence[Activated]) -> None:
        """Take note that these are in the log now."""
        self._announcer.done(events)

    def _choose(self, wait: bool) -> None:
        self.waiting, self._loading = {}, set()
        wanted: set[int] = set()
        panels: dict[int, list[Panel]] = {}
        if self._role == "inference":
            for definition in self._definitions:
                panels[definition] = [self._panel(definition, wait)]
                # The version before the live one stays at hand, to fall back on.
                routing = self.rollout.routing(definition)
                before = self.rollout.before.get(definition, ())[-1:]
                wanted |= {routing.live, *before, *(arm.version for arm in routing.arms)}
        else:
            for version in sorted(self.rollout.shadows):
                chosen = self._shadow(version)
                if chosen is not None:
                    panel = Panel(Routing(version), (chosen,))
                    panels.setdefault(chosen.definition, []).append(panel)
                    wanted.add(version)
        self._panels = panels
        wanted |= {chosen.version for chosen in self.answering}
        known = self.rollout.versions
        self._models.have([known[v] for v in sorted(wanted - self._failed) if v in known])

    def _panel(self, definition: int, wait: bool) -> Panel:
        routing = self.rollout.routing(definition)
        live = self._live(definition, wait)
        members = [self._arm(arm, definition, live, wait) for arm in routing.arms]
        # The place of an arm that does not answer is the live version's: the others keep theirs.
        arms = [
            Arm(member.version, member.stage, arm.share)
            for member, arm in zip(members, routing.arms, strict=True)
        ]
        while arms and arms[-1].stage == "live":
            arms.pop()
        in_force = Routing(live.version, routing.salt if arms else "", tuple(arms))
        return Panel(in_force, (*members[: len(arms)], live))

    def _live(self, definition: int, wait: bool) -> Answering:
        routing = self.rollout.routing(definition)
        now = next((panel.live for panel in self.panels(definition)), None)
        # A version that was rolled back has to go at once, whatever the next one waits for.
        wait = wait or now is None or self.rollout.stages.get(now.version) == "rolled_back"
        candidates = (routing.live, *reversed(self.rollout.before.get(definition, ())))
        for version in candidates:
            model = self._ready(version, definition, wait)
            if model is not None:
                return Answering(version, "live", model, {}, definition)
            if version not in self._failed and now is not None:
                return now  # until the other is ready
        return Answering(0, "live", self._prior, {}, definition)

    def _arm(self, arm: Arm, definition: int, live: Answering, wait: bool) -> Answering:
        model = self._ready(arm.version, definition, wait)
        if model is None:
            return live
        return Answering(arm.version, arm.stage, model, {}, definition)

    def _shadow(self, version: int) -> Answering | None:
        definition = self.rollout.versions[version].definition
        if definition not in self._definitions:
            return None
        model = self._model(version, wait=True)  # it has to answer from a stated offset on
        if model is None:
            return None
        return Answering(version, "shadow", model, self.rollout.shadows[version], definition)

    def _ready(self, version: int, definition: int, wait: bool) -> Predict | None:
        """Return the version's model if it can answer now."""
        model = self._prior if version == 0 else self._model(version, wait)
        if model is None or wait or any(a.version == version for a in self.of(definition)):
            return model  # what answers does not step back
        last = last_of(model)
        if not last or self.is_ready(definition, last):
            return model
        self.waiting[definition] = max(last, self.waiting.get(definition, 0))
        return None

    def _model(self, version: int, wait: bool) -> Predict | None:
        if version in self._failed:
            return None
        try:
            model = self._models.get(self.rollout.versions[version], wait)
        except Exception as error:  # whatever is wrong with a package, answers must go on
            _LOG.error("model version not loaded", version=version, error=repr(error))
            self._failed.add(version)
            return None
        if model is None:
            self._loading.add(version)
        return model
