"""Who answers, as the control log goes on: atomically, never with what is not loaded."""

from collections.abc import Collection

import pytest

from serving.http.live_models import Live, LiveModels
from serving.inference.answers import Predict
from serving.inference.loading import Loaded
from streams.errors import ModelError
from streams.wire import (
    DefinitionActivated,
    DefinitionChanged,
    ModelEvent,
    Pinned,
    Registered,
    Routing,
    StageChanged,
)
from tests.serving.http.shop import NOWHERE, ScoreOf, live, load, registered
from training.networks.tasks import Binary


class Slowly:
    """Models that are there once a test says so; ``asked`` are the versions to be had."""

    def __init__(self) -> None:
        self.there: set[int] = set()
        self.kept: set[int] = set()
        self.broken: set[int] = set()

    def get(self, registered: Registered, wait: bool) -> Predict | None:
        """Return the model; nobody waits here."""
        of, _ = registered, wait
        if of.version in self.broken:
            raise ModelError(f"model {of.version} is torn")
        return ScoreOf(of.version) if of.version in self.there else None

    def have(self, versions: Collection[Registered]) -> None:
        self.kept = {of.version for of in versions}


def following(models: Slowly | Loaded, *events: ModelEvent) -> LiveModels:
    found = LiveModels(NOWHERE, "t.models.v1", models, [1, 2], 0.25, Binary())
    found.follow(events)
    return found


def routing(models: LiveModels) -> Routing:
    assert models.live is not None
    assert set(models.live.models) >= {
        models.live.routing.live, *(arm.version for arm in models.live.routing.arms)
    }  # fmt: skip
    return models.live.routing


def answering(models: LiveModels) -> Live | None:
    return models.live


def told(models: LiveModels) -> str | None:
    return models.problem


def canary(version: int, share: float = 0.5) -> StageChanged:
    return StageChanged(version, "canary", "a test", share=share, salt="s")


def rolled_back(version: int, instead: int) -> StageChanged:
    return StageChanged(version, "rolled_back", "a test", instead=instead)


def test_the_version_before_answers_until_the_new_one_is_loaded() -> None:
    slowly = Slowly()
    models = following(slowly, registered(1), live(1))
    assert answering(models) is None
    assert told(models) == "model 1 is being loaded"
    slowly.there = {1}
    models.follow([])
    assert routing(models) == Routing(1)
    assert told(models) is None
    before = answering(models)
    models.follow([registered(2), live(2)])
    assert routing(models) == Routing(1)
    slowly.there = {1, 2}
    models.follow([])
    assert routing(models) == Routing(2)
    assert before is not None
    assert before.routing == Routing(1)  # a request under way keeps what it began with
    assert slowly.kept >= {1, 2}  # the version before stays at hand, for a rollback


def test_a_rolled_back_version_answers_no_more_even_while_the_other_is_loaded() -> None:
    slowly = Slowly()
    slowly.there = {2}
    models = following(slowly, registered(1), live(1), registered(2), live(2))
    assert routing(models) == Routing(2)
    models.follow([rolled_back(2, 1)])
    assert routing(models) == Routing(0)
    slowly.there = {1, 2}
    models.follow([])
    assert routing(models) == Routing(1)


def test_an_arm_that_is_not_loaded_yet_leaves_its_entities_to_the_live_version() -> None:
    slowly = Slowly()
    slowly.there = {1}
    events: list[ModelEvent] = [registered(1), live(1), registered(2), canary(2)]
    assert answering(following(slowly, *events)) is None  # at a start all that answers is awaited
    models = following(slowly, *events[:2])
    models.follow(events[2:])
    assert routing(models) == Routing(1)
    slowly.there = {1, 2}
    models.follow([])
    assert [arm.version for arm in routing(models).arms] == [2]
    assert models.live is not None
    assert (models.live.stage_of(2), models.live.stage_of(1)) == ("canary", "live")


def test_what_can_not_be_loaded_is_set_aside_and_tried_again_when_registered_anew() -> None:
    slowly = Slowly()
    slowly.there, slowly.broken = {1}, {2, 3}
    events: list[ModelEvent] = [
        registered(1),
        live(1),
        registered(2),
        live(2),
        registered(3),
        canary(3),
    ]
    models = following(slowly, *events)
    assert routing(models) == Routing(1)
    assert models.set_aside[2] == "model 2 is torn"
    slowly.broken, slowly.there = set(), {1, 2, 3}
    models.follow([registered(2)])
    assert routing(models).live == 2


def test_a_pin_is_obeyed() -> None:
    models = following(Loaded(load), registered(1), live(1), registered(2), live(2))
    models.follow([Pinned(1, 1, "a test")])
    assert routing(models) == Routing(1)
    models.follow([live(2)])
    assert routing(models) == Routing(1)
    models.follow([Pinned(1, None, "a test"), live(2)])
    assert routing(models) == Routing(2)


def test_another_definition_answers_once_all_partitions_have_switched() -> None:
    models = following(Loaded(load), registered(1), live(1), registered(5, 2))
    models.follow([DefinitionChanged(1, 2, 1, 5, 2, "a test")])
    assert models.live is not None
    assert (models.live.definition, routing(models)) == (1, Routing(1))
    models.follow([DefinitionActivated(1, 2, 0, {"0": 5}, "w")])
    assert models.live.definition == 1
    models.follow([DefinitionActivated(1, 2, 1, {"1": 5}, "w")])
    assert (models.live.definition, routing(models)) == (2, Routing(5))


def test_a_definition_that_is_not_declared_is_told() -> None:
    models = following(Loaded(load), registered(1), live(1))
    models.follow(
        [DefinitionChanged(1, 9, 1, 0, 1, "a test"), DefinitionActivated(1, 9, 0, {"0": 5}, "w")]
    )
    assert "definition v9" in (told(models) or "")


@pytest.mark.parametrize("event", [live(2), canary(2)], ids=["live", "canary"])
def test_a_model_that_sees_histories_can_not_answer(event: StageChanged) -> None:
    def load_one(of: Registered) -> Predict:
        return ScoreOf(of.version, last=20 if of.version == 2 else 0)

    models = following(Loaded(load_one), registered(1), live(1), registered(2), event)
    assert answering(models) is None
    assert "last 20 events" in (told(models) or "")
    models.follow([live(1)])
    assert routing(models) == Routing(1)
    assert told(models) is None
