"""What a pipeline file declares of its features: refused early, hashed exactly."""

from typing import Any

import msgspec
import pytest

from features.aggregations import Count, Mean, Sum, TimeSinceLast
from features.definition import (
    Category,
    DayOfWeek,
    Definition,
    Feature,
    HourOfDay,
    Minus,
    Number,
    kind_of,
)
from streams.errors import DefinitionError
from streams.expressions import Above, Equals, Value
from streams.stream import EventStream


class Ride(msgspec.Struct):
    ride: str
    rider: str
    at_ms: int
    km: float
    kind: str


STREAM: dict[str, Any] = {"type": Ride, "id": "ride", "entity": "rider", "event_time": "at_ms"}
EVENTS = EventStream(**STREAM)
FEATURES: dict[str, Feature] = {
    "rides_1d": Count(over="24h", tile="1h"),
    "km_7d": Sum(Value("km"), over="7d", tile="1h"),
    "km_mean": Mean(Value("km"), over="7d", tile="1h"),
    "km": Number(Value("km")),
    "km_delta": Minus("km", "km_mean"),
    "gap_s": TimeSinceLast(),
    "hour": HourOfDay("America/New_York"),
    "weekday": DayOfWeek(),
    "kind": Category("kind"),
}


def definition(**changes: Feature) -> Definition:
    return Definition(1, {**FEATURES, **changes}, groups=("kind",))


def test_names_are_split_by_kind_in_declared_order() -> None:
    declared = definition()
    assert declared.names("numeric") == list(FEATURES)[:6]
    assert declared.names("category") == list(FEATURES)[6:]
    assert {kind_of(feature) for feature in FEATURES.values()} == {"numeric", "category"}
    declared.check_against(EVENTS)


@pytest.mark.parametrize("window", [Count, lambda **w: Sum(Value("km"), **w)])
@pytest.mark.parametrize(("over", "tile"), [("90m", "1h"), ("1h", "7m"), ("30m", "1h")])
def test_a_window_is_a_whole_number_of_tiles(window: Any, over: str, tile: str) -> None:
    with pytest.raises(DefinitionError, match=rf"'{over}' with tile '{tile}': .*whole number"):
        window(over=over, tile=tile)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({}, "declares no features"),
        ({"km per ride": Number(Value("km"))}, "'km per ride': use letters"),
        ({"hour": HourOfDay("Mars/Olympus")}, "unknown time zone 'Mars/Olympus'.*America/New_York"),
        ({"d": Minus("a", "b")}, "feature d: 'a' is not a numeric feature"),
        ({"c": Category("kind"), "d": Minus("c", "c")}, "feature d: 'c' is not a numeric"),
        (
            {"a": Number(Value("km")), "e": Minus("d", "a"), "d": Minus("a", "a")},
            "feature e: 'd' must be declared before",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_once(features: dict[str, Feature], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Definition(1, features)


def test_versions_begin_at_one() -> None:
    with pytest.raises(DefinitionError, match="versions begin at 1"):
        Definition(0, FEATURES)


@pytest.mark.parametrize(
    ("features", "groups", "message"),
    [
        ({"x": Number(Value("miles"))}, (), "feature x='miles': Ride has no such field"),
        ({"x": Sum(Above("miles", 1.0), "1h", "1h")}, (), "feature x='miles'"),
        ({"x": Mean(Equals("miles", "a"), "1h", "1h")}, (), "feature x='miles'"),
        ({"x": Category("color")}, (), "feature x='color'"),
        ({"x": TimeSinceLast()}, ("age",), "group 'age'='age'"),
    ],
)
def test_fields_that_the_event_lacks_are_refused(
    features: dict[str, Feature], groups: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        Definition(1, features, groups).check_against(EVENTS)


def test_the_hash_is_the_same_in_every_process() -> None:
    # Manifests of old models name it: it must not change by itself.
    small = Definition(1, {"n": Count("24h", "1h"), "km": Number(Value("km"))}, ("kind",))
    assert small.hash(EVENTS) == small.hash(EventStream(**STREAM))
    assert small.hash(EVENTS) == HASH


HASH = "b08e4c112f11af35be5289275a3ce45c7b5e319d90c18f99c7aef4515ed5152f"


def test_the_hash_covers_all_that_decides_values() -> None:
    base = definition().hash(EVENTS)
    changed = [
        definition(rides_1d=Count(over="48h", tile="1h")),
        definition(rides_1d=Count(over="24h", tile="30m")),
        definition(km=Number(Above("km", 0.0))),
        definition(km_7d=Mean(Value("km"), over="7d", tile="1h")),
        definition(hour=HourOfDay("Europe/Berlin")),
        definition(kind=Category("rider")),
        definition(km_delta=Minus("km_mean", "km")),
        Definition(1, FEATURES, groups=()),
        Definition(1, dict(reversed(FEATURES.items())), groups=("kind",)),
    ]
    streams = [
        EventStream(**STREAM, lateness="2h"),
        EventStream(**STREAM, dedupe="2d"),
        EventStream(**{**STREAM, "entity": "kind"}),
        EventStream(**{**STREAM, "id": "rider"}),
    ]
    hashes = [d.hash(EVENTS) for d in changed] + [definition().hash(s) for s in streams]
    assert len({base, *hashes}) == 1 + len(hashes)


def test_the_hash_leaves_out_what_does_not() -> None:
    base = definition().hash(EVENTS)
    assert Definition(2, FEATURES, ("kind",)).hash(EVENTS) == base
    assert definition().hash(EventStream(**STREAM, partitions=9)) == base
    renamed = definition()
    assert Definition(1, {**renamed.features}, renamed.groups).hash(EVENTS) == base
