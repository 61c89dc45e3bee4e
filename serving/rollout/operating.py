"""What an operator may change of the rollout, each with the reason where it can't be.

All functions return the change to make of a state, or raise ConfigurationError: what, why, fix.
"""

from __future__ import annotations

from streams.errors import ConfigurationError
from streams.rollout import Rollout
from streams.wire import Pinned, Positions, Registered, Stage, StageChanged

BY = "operator"


def promoted(
    state: Rollout,
    version: int,
    to: Stage,
    share: float | None,
    reason: str,
    since: Positions | None = None,
) -> StageChanged:
    """Return the change that puts a version into ``to``: shadow, canary or live."""
    registered = known(state, version)
    definition = registered.definition
    routing = state.routing(definition)
    if to not in ("shadow", "canary", "live"):
        raise ConfigurationError(f"--to {to}: a version is promoted to shadow, canary or live")
    if to != "canary" and share is not None:
        raise ConfigurationError(
            f"--share is of a canary: leave it out, or say --to canary, not {to}"
        )
    if to != "shadow" and definition in state.pinned:
        raise ConfigurationError(
            f"definition v{definition} is pinned to model {state.pinned[definition]}: let go of it "
            "first, by `kappa models unpin`"
        )
    experiment = state.experiment(definition)
    if to != "shadow" and experiment is not None:
        name = experiment.started.name
        raise ConfigurationError(
            f"experiment {name} runs on definition v{definition}: its arms answer beside model "
            f"{routing.live}; end it first, by `kappa experiment stop {name}`"
        )
    if routing.live == version and to != "shadow":
        raise ConfigurationError(f"model {version} is live on definition v{definition} already")
    if to == "shadow" and version in state.shadows:
        raise ConfigurationError(f"model {version} is in shadow already")
    if to == "canary":
        share = 0.1 if share is None else share
        if not 0 < share <= 1:
            raise ConfigurationError(f"--share {share}: a share of the entities lies in (0, 1]")
        canary = state.canary(definition)
        if canary is not None and canary.version != version:
            raise ConfigurationError(
                f"model {canary.version} is in canary on definition v{definition}, and there is "
                f"one at a time: roll it back first, by `kappa models rollback {canary.version}`"
            )
        if canary is not None and canary.share == share:
            raise ConfigurationError(f"model {version} answers {share:.3g} of the entities already")
    return StageChanged(version, to, reason, since=since, share=share, by=BY)


def rolled_back(
    state: Rollout, version: int | None, to: int | None, reason: str, definition: int | None = None
) -> StageChanged:
    """Return the change that takes a version back: the live one (None) or an arm or a shadow.

    ``to`` is what answers instead of the live one, by default what was live before it.
    """
    if version is None:
        live = state.live if definition is None else state.routing(definition).live
        if live == 0:
            raise ConfigurationError(
                "no model is live: the prior answers, and can't be rolled back"
            )
        version = live
    of = known(state, version).definition
    routing = state.routing(of)
    if routing.live != version:
        if to is not None:
            raise ConfigurationError(
                f"--to {to}: model {version} is not live, so nothing takes its place; leave it out"
            )
        if state.stages.get(version) not in ("canary", "experiment", "shadow"):
            stage = state.stages.get(version, "registered")
            raise ConfigurationError(
                f"model {version} answers nothing (it is {stage.replace('_', ' ')}): there is "
                "nothing to roll back"
            )
        return StageChanged(version, "rolled_back", reason, by=BY)
    if to is None:
        before = [v for v in state.before.get(of, ()) if v != version]
        to = before[-1] if before else 0
    elif to:
        if known(state, to).definition != of:
            raise ConfigurationError(
                f"--to {to}: model {to} answers definition v{known(state, to).definition}, and "
                f"model {version} v{of}: name one of v{of}"
            )
        if to == version:
            raise ConfigurationError(f"--to {to}: it is the version that is rolled back")
    return StageChanged(version, "rolled_back", reason, instead=to, by=BY)


def pinned(state: Rollout, version: int, reason: str) -> Pinned:
    """Return the change that pins a version live on its definition, until it is let go."""
    definition = known(state, version).definition
    if state.pinned.get(definition) == version:
        raise ConfigurationError(f"definition v{definition} is pinned to model {version} already")
    return Pinned(definition, version, reason)


def unpinned(state: Rollout, definition: int, reason: str) -> Pinned:
    """Return the change that lets go of what is pinned on a definition."""
    if definition not in state.pinned:
        raise ConfigurationError(f"nothing is pinned on definition v{definition}")
    return Pinned(definition, None, reason)


def known(state: Rollout, version: int) -> Registered:
    """Return the record of a version; raises ConfigurationError where there is none."""
    if version not in state.versions:
        among = ", ".join(map(str, sorted(state.versions))) or "none yet"
        raise ConfigurationError(f"there is no model {version}; registered are: {among}")
    return state.versions[version]
