"""Which models answer over HTTP: what the control log says, followed beside the requests.

A thread folds the log and has loaded what it names. What answers is one immutable value that is
replaced as a whole, so every request is answered by one state of the log, and none waits for a
model: what answered before goes on until the next one is there.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from serving.inference.answers import Predict, last_of
from serving.inference.loading import Models
from serving.inference.prior import prior_model
from streams.control import ControlFollower, decode_model_events
from streams.rollout import Rollout
from streams.wire import ModelEvent, Registered, Routing, Stage
from training.networks.tasks import Task

POLL_S = 0.1
AGAIN_S = 1.0

_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Live:
    """Who answers whom: ``models`` holds all that ``routing`` names, 0 being the prior.

    ``rollout`` is the state of the log that it was chosen in.
    """

    definition: int
    routing: Routing
    models: Mapping[int, Predict]
    rollout: Rollout

    def stage_of(self, version: int) -> Stage:
        """Return as what a version of the routing answers."""
        return next((a.stage for a in self.routing.arms if a.version == version), "live")


class LiveModels:
    """Follows ``topic`` and has the models at hand that it names.

    Args:
        bootstrap, topic: the control log.
        models: gives and loads them; what a loading raises sets the version aside, and the one
            that was live before answers in its place.
        definitions: those declared, the first of them answers until another is ordered.
        prior, task: what version 0 answers.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        models: Models,
        definitions: Sequence[int],
        prior: float,
        task: Task,
    ) -> None:
        self._bootstrap, self._topic, self._models = bootstrap, topic, models
        self._definitions = tuple(definitions)
        self._prior = prior_model(prior, task)
        self._rollout = Rollout()
        self._failed: dict[int, str] = {}
        self._is_loading = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-models", daemon=True)
        self.live: Live | None = None
        self.problem: str | None = "the control log has not been read to its end yet"
        self.switches = 0

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """Stop following; a load that is under way is waited for."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def set_aside(self) -> Mapping[int, str]:
        """Version → why it could not be loaded."""
        return dict(self._failed)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow_log()
            except Exception as error:  # whatever happens, what answers goes on answering
                _LOG.error("control log not followed", topic=self._topic, error=str(error))
                if self.live is None:
                    self.problem = f"the control log can't be read: {error}"
                self._stop.wait(AGAIN_S)

    def _follow_log(self) -> None:
        follower = ControlFollower(self._bootstrap, self._topic)
        try:
            self._rollout = Rollout()
            self.follow(decode_model_events(follower.catch_up()))
            while not self._stop.is_set():
                self.follow(decode_model_events(follower.poll(POLL_S)))
        finally:
            follower.close()

    def follow(self, events: Sequence[ModelEvent]) -> None:
        """Take in what the log says next; switch to what it names as soon as that is loaded."""
        before = self._rollout
        for event in events:
            self._rollout = self._rollout.apply(event)
            if isinstance(event, Registered):
                self._failed.pop(event.version, None)  # it is tried anew
        if self._rollout is not before or self._is_loading or self.live is None:
            self._choose()

    def _choose(self) -> None:
        definition = answering_definition(self._rollout, self._definitions[0])
        if definition not in self._definitions:
            self.problem = (
                f"the control log orders definition v{definition}, which the pipeline file of this "
                "process does not declare: start it with the file that does"
            )
            return
        self._have(definition)
        at_hand: dict[int, Predict] = {}
        while True:  # until what is wanted holds nothing that failed while it was asked for
            wanted = self._wanted(definition)
            failed = len(self._failed)
            at_hand = {v: m for v in _versions(wanted) if (m := self._get(v)) is not None}
            if len(self._failed) == failed:
                break
        missing = [version for version in _versions(wanted) if version not in at_hand]
        self._is_loading = bool(missing)
        if missing and self.live is None:
            self.problem = f"model {missing[0]} is being loaded"
            return
        if missing:
            wanted = self._meanwhile(definition, wanted, at_hand)
        self._publish(definition, wanted, at_hand)

    def _have(self, definition: int) -> None:
        """Name what is to be kept: what may answer, and what a rollback would put in its place."""
        routing, before = self._rollout.routing(definition), self._rollout.before
        named = {*_versions(routing), *before.get(definition, ())[-1:]}
        if self.live is not None:
            named |= _versions(self.live.routing)
        known = self._rollout.versions
        self._models.have([known[v] for v in sorted(named - self._failed.keys()) if v in known])

    def _wanted(self, definition: int) -> Routing:
        """Return what the log wants, without what can't be loaded."""
        routing = self._rollout.routing(definition)
        arms = tuple(arm for arm in routing.arms if arm.version not in self._failed)
        lives = (*self._rollout.before.get(definition, ()), routing.live)
        live = next((v for v in reversed(lives) if v not in self._failed), 0)
        return Routing(live, routing.salt if arms else "", arms)

    def _get(self, version: int) -> Predict | None:
        if version == 0:
            return self._prior
        if version in self._failed or version not in self._rollout.versions:
            return None
        try:
            return self._models.get(self._rollout.versions[version], wait=False)
        except Exception as error:  # whatever is wrong with a package, answers must go on
            _LOG.error("model version not loaded", version=version, error=repr(error))
            self._failed[version] = str(error)
            return None

    def _meanwhile(self, definition: int, wanted: Routing, at_hand: dict[int, Predict]) -> Routing:
        """Return who answers until all that is wanted is loaded: as before, as far as it may.

        An arm that is not there yet leaves its entities to the live version.
        """
        if wanted.live in at_hand:
            return Routing(wanted.live)
        now = self.live
        before = now.routing.live if now is not None and now.definition == definition else 0
        lives = (*self._rollout.before.get(definition, ()), before)
        for version in reversed(lives):
            rolled_back = self._rollout.stages.get(version) == "rolled_back"
            model = None if rolled_back else self._get(version)
            if model is not None:
                at_hand[version] = model
                return Routing(version)
        at_hand[0] = self._prior
        return Routing(0)

    def _publish(self, definition: int, routing: Routing, at_hand: dict[int, Predict]) -> None:
        now = self.live
        models = {version: at_hand[version] for version in _versions(routing)}
        histories = {version: last_of(model) for version, model in models.items() if last_of(model)}
        if histories:
            version, last = next(iter(histories.items()))
            self.live = None
            self.problem = (
                f"model {version} sees the last {last} events of an entity, and a request holds "
                "one: this service can't answer with it; put a model that sees one event live"
            )
            return
        self.problem = None
        self.live = Live(definition, routing, models, self._rollout)
        if now is None or (now.definition, now.routing) != (definition, routing):
            self.switches += 1
            _LOG.info("answering", definition=definition, routing=routing)


def _versions(routing: Routing) -> set[int]:
    return {routing.live, *(arm.version for arm in routing.arms)}


def answering_definition(rollout: Rollout, first: int) -> int:
    """Return the definition that answers requests: the one ordered last, once it answers in all
    partitions of the stream; until then the one before it."""
    for order in reversed(rollout.cutovers.orders):
        if order is not rollout.cutovers.orders[-1] or not rollout.cutovers.undecided():
            return order.definition
        return order.before
    return first
