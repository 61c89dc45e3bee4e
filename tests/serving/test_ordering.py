"""Which orders of another definition are given, and why the others are not; no broker."""

from dataclasses import replace

import pytest

from serving.ordering import Built, Wish, decide
from serving.pipeline import Pipeline
from streams.errors import ConfigurationError, DefinitionError
from streams.expressions import Above
from streams.rollout import Rollout
from streams.stream import LabelStream
from streams.wire import DefinitionActivated, DefinitionChanged, ModelEvent, Registered
from tests.serving.feature_stream import DEFINITION, EVENTS, REKEYED, V2, Sale, live, registered

PIPELINE = Pipeline(
    name="sales",
    events=EVENTS,
    labels=LabelStream(
        Sale, id="id", entity="shop", event_time="at_ms", target=Above("at_ms", 0.0)
    ),
    features=(DEFINITION, V2, REKEYED),
)
UP_TO_DATE = Built(whole=True, lag=3)
MODELS: list[ModelEvent] = [registered(1), live(1), registered(2, 2), registered(3, 2)]


def ordered(
    wish: Wish, *events: ModelEvent, built: Built = UP_TO_DATE, pipeline: Pipeline = PIPELINE
) -> DefinitionChanged:
    return decide(pipeline, Rollout().apply_all(events), wish, built)


def test_the_newest_model_of_the_definition_answers_first() -> None:
    order = ordered(Wish(2, "better windows"), *MODELS)
    assert order == DefinitionChanged(1, 2, 1, 3, 2, "better windows")
    assert ordered(Wish(2, model=2), *MODELS).model_version == 2


def test_back_goes_to_the_model_that_was_live() -> None:
    switched: list[ModelEvent] = [*MODELS, registered(4), ordered(Wish(2), *MODELS)]
    switched += [DefinitionActivated(1, 2, p, {str(p): 7}, "w0") for p in range(2)]
    back = ordered(Wish(1), *switched)
    assert (back.change, back.definition, back.before, back.model_version) == (2, 1, 2, 1)


def test_back_to_where_no_model_was_the_prior_answers_again() -> None:
    models = [registered(2, 2)]
    there = ordered(Wish(2), *models)
    said = [DefinitionActivated(1, 2, p, {str(p): 7}, "w0") for p in range(2)]
    assert ordered(Wish(1), *models, there, *said).model_version == 0


def test_a_stated_offset_is_passed_on() -> None:
    assert ordered(Wish(2, at={1: 900}), *MODELS).at == {"1": 900}
    with pytest.raises(ConfigurationError, match=r"partitions \[2\].*0 to 1"):
        ordered(Wish(2, at={2: 900}), *MODELS)


def test_where_events_are_spread_the_partitions_decide_together() -> None:
    assert not ordered(Wish(2), *MODELS).together
    assert ordered(Wish(3, prior=True), *MODELS).together


def test_without_a_model_it_needs_the_prior() -> None:
    with pytest.raises(ConfigurationError, match=r"no model.*kappa train --definition v2.*--prior"):
        ordered(Wish(2), registered(1), live(1))
    assert ordered(Wish(2, prior=True), registered(1), live(1)).model_version == 0


def test_a_model_of_other_content_of_the_version_does_not_count() -> None:
    other = replace_manifest(registered(2, 2), {"definition": {"version": 2, "hash": "0" * 64}})
    with pytest.raises(ConfigurationError, match=r"of models \[2\] the definition was another"):
        ordered(Wish(2), other)
    same = replace_manifest(other, {"definition": {"version": 2, "hash": V2.hash(EVENTS)}})
    assert ordered(Wish(2), same).model_version == 2
    with pytest.raises(ConfigurationError, match="model 1 was not trained on definition v2"):
        ordered(Wish(2, model=1), *MODELS)


def replace_manifest(event: Registered, manifest: dict[str, object]) -> Registered:
    return Registered(
        event.version, event.command_id, event.uri, event.sha256, manifest, {}, None,
        event.definition,
    )  # fmt: skip


def test_what_is_live_or_under_way_or_undeclared_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="v1 is live already"):
        ordered(Wish(1), *MODELS)
    with pytest.raises(DefinitionError, match="no definition v9"):
        ordered(Wish(9), *MODELS)
    with pytest.raises(ConfigurationError, match=r"cut-over to v2 is under way.*\[0, 1\]"):
        ordered(Wish(1), *MODELS, ordered(Wish(2), *MODELS))
    only_v2 = replace(PIPELINE, features=(V2,))
    undeclared = ordered(Wish(3, prior=True), *MODELS)
    with pytest.raises(DefinitionError, match="no definition v3"):
        ordered(Wish(2), *MODELS, undeclared, pipeline=only_v2)


@pytest.mark.parametrize(
    ("built", "said"),
    [(Built(False, 0), "kappa replay --definition v2"), (Built(True, 1001), "1,001 events behind")],
)
def test_features_that_are_not_up_to_the_log_are_refused(built: Built, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        ordered(Wish(2), *MODELS, built=built)
    if built.whole:
        assert ordered(Wish(2, max_lag=2000), *MODELS, built=built).definition == 2
