"""The pipeline object: its parts are checked against each other."""

from typing import Any

import msgspec
import pytest

from features.aggregations import Count, TimeSinceLast
from features.definition import Category, Definition
from kappa import Model, Pipeline, Transformer
from streams.errors import DefinitionError, KappaError
from streams.expressions import Above
from streams.stream import EventStream, LabelStream
from training.networks.tasks import MultiClass


class Start(msgspec.Struct):
    trip: str
    bike: str
    at_ms: int


class End(msgspec.Struct):
    trip: str
    bike: str
    at_ms: int
    minutes: float


KEYS: dict[str, Any] = {"id": "trip", "entity": "bike", "event_time": "at_ms"}
PARTS: dict[str, Any] = {
    "name": "bikes",
    "events": EventStream(Start, **KEYS, partitions=3),
    "labels": LabelStream(End, **KEYS, target=Above("minutes", 15.0)),
    "features": Definition(2, {"gap_s": TimeSinceLast()}),
}


def test_names_and_topics_follow_the_declaration() -> None:
    pipeline = Pipeline(**PARTS)
    assert pipeline.topics.features == "bikes.features.v2"
    specs = {spec.name: spec.partitions for spec in pipeline.topic_specs}
    assert specs["bikes.events.v1"] == 3
    assert pipeline.definition_hash == pipeline.features.hash(pipeline.events)


def test_of_several_definitions_the_first_is_what_runs() -> None:
    v2, v3 = Definition(2, {"gap_s": TimeSinceLast()}), Definition(3, {"bike": Category("bike")})
    pipeline = Pipeline(**{**PARTS, "features": (v2, v3)})
    assert pipeline.features is v2
    assert pipeline.definitions == (v2, v3)
    assert pipeline.definition(3) is v3
    assert pipeline.topics_of(v3).features == "bikes.features.v3"
    names = [spec.name for spec in pipeline.topic_specs]
    assert {"bikes.features.v2", "bikes.features.v3"} <= set(names)
    assert len(names) == len(set(names)) == len(Pipeline(**PARTS).topic_specs) + 1
    assert Pipeline(**PARTS).definitions == (v2,)


def test_an_entity_s_last_events_have_to_stand_in_one_partition() -> None:
    spread = Definition(2, {"trips_1h": Count(over="1h", tile="5m", by="trip")})
    sequence = Model(network=Transformer(last=8))
    with pytest.raises(DefinitionError, match=r"last 8 events.*v2.*'trip' last.*'bike'"):
        Pipeline(**{**PARTS, "features": spread, "model": sequence})
    Pipeline(**{**PARTS, "features": spread})
    Pipeline(**{**PARTS, "model": sequence})
    alone = EventStream(Start, **KEYS, partitions=1)
    Pipeline(**{**PARTS, "events": alone, "features": spread, "model": sequence})


def test_definitions_need_versions_of_their_own() -> None:
    gap = {"gap_s": TimeSinceLast()}
    with pytest.raises(DefinitionError, match=r"have the versions \[2, 2\]"):
        Pipeline(**{**PARTS, "features": (Definition(2, gap), Definition(2, gap))})
    with pytest.raises(DefinitionError, match="give at least one"):
        Pipeline(**{**PARTS, "features": ()})
    wrong = Definition(3, {"x": Category("color")})
    with pytest.raises(DefinitionError, match="feature x='color': Start has no"):
        Pipeline(**{**PARTS, "features": (PARTS["features"], wrong)})
    with pytest.raises(DefinitionError, match="declares no definition v4, only v2"):
        Pipeline(**PARTS).definition(4)


@pytest.mark.parametrize("name", ["bikes", "bikes_2", "b2", "2b"])
def test_names_that_will_do(name: str) -> None:
    assert Pipeline(**{**PARTS, "name": name}).name == name


@pytest.mark.parametrize("name", ["", "Bikes", "my bikes", "bikes.v1", "bikes-v1", "../x", "vélos"])
def test_names_that_will_not_do(name: str) -> None:
    with pytest.raises(DefinitionError, match="lower case letters, digits and _ only"):
        Pipeline(**{**PARTS, "name": name})


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("step", "daily", "'daily' is not a length of time"),
        ("timezone", "Moon/Base", "Moon/Base"),
        ("timezone", "", "IANA"),
        ("features", Definition(1, {"x": Category("color")}), "feature x='color': Start has no"),
        ("model", Model(task=MultiClass(("a", "b"))), "name the field that holds the class"),
    ],
)
def test_parts_that_do_not_fit_are_refused(part: str, value: object, message: str) -> None:
    with pytest.raises(KappaError, match=message):
        Pipeline(**{**PARTS, part: value})
