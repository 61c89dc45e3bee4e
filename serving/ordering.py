"""An operator's order to answer from another definition: may it be given, given, waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from features.definition import Definition
from features.processing.stages import stages_of
from serving.inference.reading import is_rekeyed
from serving.pipeline import Pipeline
from streams.control import ControlFollower, ControlWriter, decode_model_events
from streams.cutover import Cutovers
from streams.errors import ConfigurationError
from streams.group_offsets import GroupOffsets
from streams.positions import PositionReader
from streams.rollout import Rollout
from streams.wire import DefinitionChanged

MAX_LAG = 1_000
POLL_S = 0.1


@dataclass(frozen=True)
class Wish:
    """What the operator wants: the version to switch to and what answers first on it.

    ``model``: its number; without it the one that was live on the definition before, else the
    newest. ``prior``: the pipeline's stated prior where there is no model. ``at``: partition →
    offset of the events topic before which it does not switch. ``max_lag``: how many events the
    features may be behind.
    """

    version: int
    reason: str = "ordered by an operator"
    model: int | None = None
    prior: bool = False
    at: Mapping[int, int] = field(default_factory=dict)
    max_lag: int = MAX_LAG


@dataclass(frozen=True)
class Built:
    """How far a definition's features have come: whole, and events behind the log."""

    whole: bool
    lag: int


def decide(pipeline: Pipeline, rollout: Rollout, wish: Wish, built: Built) -> DefinitionChanged:
    """Return the order; ``rollout`` is what the control log says, ``built`` of the features.

    Raises:
        DefinitionError: the pipeline does not declare the definition.
        ConfigurationError: the order can't be given now; says why, and what to do.
    """
    target, cutovers = pipeline.definition(wish.version), rollout.cutovers
    before = pipeline.definition(cutovers.definition or pipeline.features.version)
    name = f"{pipeline.name}: definition v{target.version}"
    if target is before:
        raise ConfigurationError(f"{name} is live already")
    waiting = cutovers.undecided()
    if waiting:
        raise ConfigurationError(
            f"{name} can't be ordered while the cut-over to v{before.version} is under way: "
            f"partitions {waiting} have not switched; is `kappa up` running?"
        )
    if not built.whole:
        raise ConfigurationError(
            f"{name} has no features up to the log: build them by "
            f"`kappa replay --definition v{target.version}`, and let `kappa up` follow"
        )
    if built.lag > wish.max_lag:
        raise ConfigurationError(
            f"{name} is {built.lag:,} events behind the log, more than {wish.max_lag:,}: answers "
            "would wait for it; let its feature worker (`kappa up`) catch up, or allow it by "
            "--max-lag"
        )
    partitions = pipeline.events.partitions
    if wish.at and not set(wish.at) <= set(range(partitions)):
        raise ConfigurationError(
            f"--at-offset names partitions {sorted(wish.at)}; {pipeline.topics.events} has 0 to "
            f"{partitions - 1}"
        )
    together = any(is_rekeyed(d, pipeline.events, pipeline.labels) for d in (before, target))
    return DefinitionChanged(
        change=len(cutovers.orders) + 1,
        definition=target.version,
        before=before.version,
        model_version=_model(pipeline, rollout, wish, target),
        partitions=partitions,
        reason=wish.reason,
        together=together,
        at={str(p): offset for p, offset in sorted(wish.at.items())} or None,
    )


def _model(pipeline: Pipeline, rollout: Rollout, wish: Wish, target: Definition) -> int:
    """Return the version that answers first on the definition."""
    content = target.hash(pipeline.events, pipeline.labels)
    of_it = {v: e for v, e in rollout.versions.items() if e.definition == target.version}
    fitting = [
        v
        for v, event in sorted(of_it.items())
        if event.manifest.get("definition", {}).get("hash", content) == content
    ]
    if wish.model is not None:
        if wish.model not in fitting:
            raise ConfigurationError(
                f"{pipeline.name}: model {wish.model} was not trained on definition "
                f"v{target.version} as it is declared; those that were: {fitting or 'none'}"
            )
        return wish.model
    was_live = rollout.lives.get(target.version, 0)
    if was_live in fitting:
        return was_live
    if fitting:
        return fitting[-1]
    # Back to where there was no model yet: what answered then answers again.
    if wish.prior or target.version in {order.before for order in rollout.cutovers.orders}:
        return 0
    other = f" (of models {sorted(of_it)} the definition was another one)" if of_it else ""
    raise ConfigurationError(
        f"{pipeline.name}: no model was trained on definition v{target.version}{other}: run "
        f"`kappa train --definition v{target.version}`, or let the prior answer first by --prior"
    )


def built_until(bootstrap: str, pipeline: Pipeline, definition: Definition) -> Built:
    """Return how far the definition's stages have come, by their groups' committed offsets.

    Raises:
        BrokerError: the broker does not tell.
    """
    partitions, topics = pipeline.events.partitions, pipeline.topics_of(definition)
    whole, lag = True, 0
    reader = PositionReader(bootstrap)
    try:
        for stage in stages_of(definition, pipeline.events, pipeline.labels, topics):
            offsets = GroupOffsets(bootstrap, stage.group, stage.input)
            try:
                committed = offsets.read(partitions)
            finally:
                offsets.close()
            ends = reader.ends({stage.input: partitions})[stage.input]
            # A build that is under way, or that was one of a range only, notes so.
            missing = [p for p, end in ends.items() if end > 0 and p not in committed]
            whole &= not missing and not any(at.note for at in committed.values())
            lag += sum(end - committed[p].offset for p, end in ends.items() if p in committed)
    finally:
        reader.close()
    return Built(whole, lag)


class Orders:
    """The control log as the operator's side of it: gives an order, waits for it."""

    def __init__(self, bootstrap: str, pipeline: Pipeline) -> None:
        self.rollout = Rollout()
        self._bootstrap, self._pipeline = bootstrap, pipeline
        self._follower = ControlFollower(bootstrap, pipeline.topics.models)

    def give(self, wish: Wish) -> DefinitionChanged:
        """Append the order, and return it.

        Raises:
            DefinitionError, ConfigurationError: as :func:`decide`.
            BrokerError: the broker fails.
        """
        self._follow(self._follower.catch_up())
        declared = self._pipeline.definition(wish.version)
        built = built_until(self._bootstrap, self._pipeline, declared)
        order = decide(self._pipeline, self.rollout, wish, built)
        writer = ControlWriter(self._bootstrap)
        writer.append_model_event(self._pipeline.topics.models, order)
        self._follow(self._follower.catch_up())
        if order not in self.rollout.cutovers.orders:
            raise ConfigurationError(
                f"{self._pipeline.name}: another cut-over was ordered at the same time, and stands"
            )
        return order

    def wait(self, observe: Callable[[Cutovers], None], timeout_s: float) -> bool:
        """Wait until the order given last has taken effect everywhere; return whether it has."""
        deadline_s = time.monotonic() + timeout_s
        while self.rollout.cutovers.undecided():
            if time.monotonic() > deadline_s:
                return False
            self._follow(self._follower.poll(POLL_S))
            observe(self.rollout.cutovers)
        return True

    def close(self) -> None:
        """Close the connection."""
        self._follower.close()

    def _follow(self, values: list[bytes]) -> None:
        self.rollout = self.rollout.apply_all(decode_model_events(values))
