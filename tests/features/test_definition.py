"""What a pipeline file declares of its features: refused early, hashed exactly."""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from features.aggregations import (
    Count,
    DecayedMean,
    DistinctCount,
    Mean,
    Quantile,
    Rate,
    Sum,
    TimeSinceLast,
    TopShare,
)
from features.definition import (
    Category,
    DayOfWeek,
    Definition,
    Feature,
    HourOfDay,
    Minus,
    Number,
    Ratio,
    kind_of,
)
from features.engine.engine import FeatureEngine
from streams.errors import DefinitionError
from streams.expressions import Above, Equals, Value
from streams.stream import EventStream, LabelStream


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


class Verdict(msgspec.Struct):
    ride: str
    rider: str
    kind: str
    known_ms: int
    bad: bool


LABELS = LabelStream(Verdict, "ride", "rider", "known_ms", Value("bad"), delay="7d")


def here() -> int:
    """Return the line of the call."""
    return sys._getframe(1).f_lineno


@pytest.mark.parametrize(
    ("feature", "message", "line"),
    [
        (Number(Value("miles")), "feature x='miles': Ride has no such field", here()),
        (Category("color"), "feature x='color': Ride has no such field", here()),
        (Sum(Value("miles"), "1h", "1h"), "feature x='miles': Ride has no such field", here()),
        (Count("1h", "1h", where=Above("miles", 2)), "x='miles': Ride has no such field", here()),
        (TimeSinceLast(where=~Equals("color", "red")), "x='color': Ride has no such", here()),
        (DistinctCount("color", "1h", "1h"), "feature x='color': Ride has no such", here()),
        (Count("1h", "1h", by="bike"), "feature x, by='bike': Ride has no such field", here()),
        (Count("1h", "1h", by="km"), "feature x, by='km': Ride.km is .*but must be str", here()),
        (
            Count("1h", "1h", on="labels", delay="6d"),
            "known '7d' after it: set delay='7d' or longer",
            here() - 2,
        ),
        (Count("1h", "1h", on="labels"), "uses labels '0s' after", here()),
        (
            Mean(Value("km"), "1h", "1h", on="labels", delay="7d"),
            "feature x='km': Verdict has no such field",
            here() - 2,
        ),
        (
            Count("1h", "1h", by="kind", on="labels", delay="7d"),
            "the labels are keyed by 'rider': produce them with the key 'kind'",
            here() - 2,
        ),
    ],
)
def test_what_does_not_fit_the_streams_is_refused_with_its_line(
    feature: Feature, message: str, line: int
) -> None:
    with pytest.raises(DefinitionError, match=message) as raised:
        Definition(1, {"x": feature}).check_against(EVENTS, LABELS)
    assert f"{__file__}:{line}" in str(raised.value)


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: Count("30m", "1h"), "shorter than its tile"),
        (lambda: Count("91d", "1d"), "90 days are the longest"),
        (lambda: Count("1h", "1x"), "tile: .*1x"),
        (lambda: Count("1h", "1h", delay="soon"), "delay: .*soon"),
        (lambda: Count("1h", "1h", on="clicks"), "on='clicks'"),  # type: ignore[arg-type]
        (lambda: Rate("1h", "1h", per="often"), "per: .*often"),
        (lambda: DistinctCount("km", "1h", "1h", precision=15), "precision=15: from 4"),
        (lambda: TopShare("km", "1h", "1h", size=0), "size=0: from 1 to 64"),
        (lambda: Quantile(Value("km"), 2, "1h", "1h", low=1, high=9), "q=2: from 0 to 1"),
        (lambda: Quantile(Value("km"), 1, "1h", "1h", low=0, high=9), "0 < low < high"),
        (lambda: Quantile(Value("km"), 1, "1h", "1h", 1e-9, 1e9, 0.001), "buckets of 4 bytes"),
        (lambda: DecayedMean(Value("km"), half_life="long"), "half_life: .*long"),
        (lambda: Definition(1, {"d": Ratio("a", "b")}), "feature d: 'a' is not a numeric"),
        (lambda: Definition(1, {"n": Count("2h", "1h")}, forget="1h"), "forget='1h' is shorter"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(
    declare: Callable[[], object], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message) as raised:
        declare()
    assert f"{__file__}:{declare.__code__.co_firstlineno}" in str(raised.value)


def test_features_of_labels_need_the_labels() -> None:
    of_labels = Definition(1, {"n": Count("1h", "1h", on="labels", delay="7d")})
    with pytest.raises(DefinitionError, match="v1 makes features of labels, but there is no"):
        FeatureEngine(of_labels, EVENTS)


def test_options_that_are_used_change_the_hash_and_others_do_not() -> None:
    def hashed(feature: Feature, **labels: Any) -> str:
        return Definition(1, {"n": feature}).hash(EVENTS, **labels)

    plain = hashed(Count("2h", "1h"))
    assert hashed(Count("2h", "1h", where=None, delay="0s", on="events")) == plain
    assert hashed(Count("2h", "1h"), labels=LABELS) == plain
    used: list[Feature] = [
        Count("2h", "1h", where=Above("km", 1)),
        Count("2h", "1h", where=~Above("km", 1)),
        Count("2h", "1h", by="kind"),
        Count("2h", "1h", delay="1h"),
        Rate("2h", "1h"),
    ]
    hashes = {plain, *map(hashed, used)}
    of_labels = Count("2h", "1h", on="labels", delay="7d")
    later = dataclasses.replace(LABELS, delay="6d")
    hashes |= {hashed(of_labels, labels=LABELS), hashed(of_labels, labels=later)}
    assert len(hashes) == len(used) + 3
