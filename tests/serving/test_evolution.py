"""Which declarations go on with a log, and which are refused. No broker."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, Struct, defstruct

from features.aggregations import Count, Sum
from features.definition import Category, Definition, Number
from serving.evolution import Log, Verdict, judge
from serving.pipeline import Pipeline
from streams.expressions import Equals, Value
from streams.schema_log import Registry, TypeRegistered
from streams.stream import EventStream, LabelStream

EVENTS, LABELS = "shop.events.v1", "shop.labels.v1"
BASE: list[Any] = [("id", str), ("user", str), ("at", int), ("amount", Annotated[int, Meta(ge=0)])]


class Label(Struct):
    id: str
    user: str
    known: int
    bad: bool


def definition(version: int = 1, **more: Any) -> Definition:
    return Definition(version, {"n": Count("1h", "5m"), "amount": Number(Value("amount")), **more})


def pipeline(
    fields: Sequence[Any] = BASE, features: Any = None, entity: str = "user", label: Any = Label,
    **options: Any,
) -> Pipeline:  # fmt: skip
    event = defstruct("Order", fields, **options)
    return Pipeline(
        name="shop",
        events=EventStream(event, id="id", entity=entity, event_time="at", partitions=2),
        labels=LabelStream(label, id="id", entity="user", event_time="known", target=Value("bad")),
        features=features or definition(),
    )


def log(n: int = 10, computed: frozenset[int] = frozenset({1}), revived: int = 0) -> Log:
    ends = {0: n, 1: 0}
    return Log({EVENTS: ends, LABELS: ends}, computed, lambda _: revived)


def started(*pipelines: Pipeline, steps: Callable[[int], int] = lambda i: 10 * i) -> Registry:
    """Return what the log says after these pipelines ran, each from ``steps(i)`` records on."""
    registry = Registry()
    for i, declared in enumerate(pipelines):
        verdict = judge(declared, registry, log(steps(i)))
        assert not verdict.refused
        for event in verdict.record:
            registry = registry.apply(event)
    return registry


def refused(verdict: Verdict) -> list[tuple[str, str]]:
    return [(d.where, d.field) for d in verdict.refused]


def test_the_first_start_records_both_types_and_the_definition() -> None:
    registry = started(pipeline())
    (events,), (labels,) = registry.types[EVENTS], registry.types[LABELS]
    assert (events.version, events.since) == (1, {"0": 0, "1": 0})
    assert events.fields == {"id": "id", "entity": "user", "event_time": "at"}
    assert labels.fields["event_time"] == "known"
    recorded = registry.definitions[1]
    assert recorded.features["n"] == "Count(over='1h', tile='5m')"
    assert recorded.types == {EVENTS: 1, LABELS: 1}
    assert judge(pipeline(), registry, log()) == Verdict(), "nothing is new at the second start"


def test_a_log_that_is_older_than_this_record_is_taken_to_be_of_the_declared_type() -> None:
    (events, *_) = judge(pipeline(), Registry(), log(7)).record
    assert isinstance(events, TypeRegistered)
    assert events.changes == ["first seen with 7 records in the log"]


def test_a_field_with_a_default_makes_a_version() -> None:
    registry = started(pipeline(), pipeline([*BASE, ("note", str, "")]))
    assert [v.version for v in registry.types[EVENTS]] == [1, 2]
    assert registry.types[EVENTS][1].since == {"0": 10, "1": 0}
    assert 'note: was absent, is string, default "" (added)' in registry.types[EVENTS][1].changes[0]


def test_what_breaks_is_refused_line_by_line_with_the_remedy() -> None:
    changed = pipeline([*BASE[:3], ("amount", Annotated[int, Meta(ge=1)]), ("note", str)])
    verdict = judge(changed, started(pipeline()), log())
    where = f"{EVENTS} (version 1)"
    assert refused(verdict) == [(where, "amount"), (where, "note")]
    amount, note = map(str, verdict.refused)
    assert "was integer ≥ 0, is integer ≥ 1" in amount
    assert "new field with a default" in amount
    assert "was absent, is string, required; give it a default" in note
    assert not any(d.acceptable for d in verdict.refused)


def test_every_version_of_which_there_are_records_must_be_readable() -> None:
    as_text = pipeline([*BASE, ("note", str, "")])
    without = pipeline()
    as_number = pipeline([*BASE, ("note", int, 0)])
    registry = started(as_text, without)
    verdict = judge(as_number, registry, log(20))
    assert refused(verdict) == [(f"{EVENTS} (version 1)", "note")]
    # Of a version that nothing was written with there is nothing to read.
    registry = started(as_text, without, steps=lambda _: 0)
    assert not judge(as_number, registry, log(20)).refused


def test_a_field_can_be_removed_in_two_steps() -> None:
    note = ("note", str)
    at_once = judge(pipeline(), started(pipeline([*BASE, note])), log())
    assert refused(at_once) == [(f"{EVENTS} (version 1)", "note")]
    registry = started(pipeline([*BASE, note]), pipeline([*BASE, (*note, "")]))
    assert not judge(pipeline(), registry, log(20)).refused


@pytest.mark.parametrize("role", ["id", "entity", "event_time"])
def test_the_fields_that_order_the_log_are_not_changed(role: str) -> None:
    other = [*BASE, ("other", int if role == "event_time" else str, 0)]
    before = pipeline(other)
    events = replace(before.events, **{role: "other"})  # type: ignore[arg-type]
    after = replace(before, events=events, features=before.definitions)
    # The definition's hash covers them too, which says less about why.
    verdict = judge(after, started(before), log())
    assert (f"{EVENTS} (version 1)", f"the {role}") in refused(verdict)
    assert any("another name" in str(d) for d in verdict.refused)


def test_labels_are_compared_too() -> None:
    number = defstruct("Label", [("id", str), ("user", str), ("known", int), ("bad", int)])
    verdict = judge(pipeline(label=number), started(pipeline()), log())
    assert refused(verdict) == [(f"{LABELS} (version 1)", "bad")]


def test_another_default_needs_a_new_definition_where_a_feature_reads_the_field() -> None:
    tip, new_tip = ("tip", int, 0), ("tip", int, 1)
    reads = definition(tips=Sum(Value("tip"), "1h", "5m"))
    registry = started(pipeline([*BASE, tip], reads))
    verdict = judge(pipeline([*BASE, new_tip], reads), registry, log())
    (difference,) = verdict.refused
    assert (difference.field, difference.acceptable) == ("tip", True)
    assert "tips of definition v1 would get other values" in str(difference)
    assert "version 2" in str(difference)
    renewed = definition(2, tips=Sum(Value("tip"), "1h", "5m"))
    assert not judge(pipeline([*BASE, new_tip], renewed), registry, log()).refused
    # Nobody reads it, or nothing was computed: nothing comes out otherwise.
    unread = started(pipeline([*BASE, tip]))
    assert not judge(pipeline([*BASE, new_tip]), unread, log()).refused
    assert not judge(pipeline([*BASE, new_tip], reads), registry, log(computed=frozenset())).refused


@pytest.mark.parametrize(
    ("feature", "is_text"),
    [
        (Category("zone"), True),
        (Number(Value("zone")), False),
        (Sum(Value("zone"), "1h", "5m", where=Equals("zone", 3)), False),
    ],
)
def test_a_whole_number_made_a_float_is_another_text(feature: Any, is_text: bool) -> None:
    reads = definition(zone=feature)
    registry = started(pipeline([*BASE, ("zone", int)], reads))
    verdict = judge(pipeline([*BASE, ("zone", float)], reads), registry, log())
    assert bool(verdict.refused) == is_text


def test_dead_letters_that_would_be_taken_now_need_a_new_definition() -> None:
    looser = [*BASE[:3], ("amount", int)]
    registry = started(pipeline())
    assert not judge(pipeline(looser), registry, log()).refused
    verdict = judge(pipeline(looser), registry, log(revived=3))
    (difference,) = verdict.refused
    assert difference.field == "3 dead letters"
    assert difference.acceptable
    assert not judge(pipeline(looser, definition(2)), registry, log(revived=3)).refused


def test_a_definition_is_not_changed_under_its_version_once_it_has_computed() -> None:
    registry = started(pipeline())
    changed = pipeline(features=Definition(1, {"n": Count("2h", "5m"), "m": Count("1h", "5m")}))
    verdict = judge(changed, registry, log())
    assert refused(verdict) == [("definition v1", name) for name in ("n", "amount", "m")]
    assert "was Count(over='1h', tile='5m'), is Count(over='2h', tile='5m')" in str(
        verdict.refused[0]
    )
    assert "version 2" in str(verdict.refused[0])
    unused = judge(changed, registry, log(computed=frozenset()))
    assert not unused.refused
    assert (
        registry.apply(unused.record[0]).definitions[1].features["n"].startswith("Count(over='2h'")
    )


def test_a_version_that_another_process_wrote_first_stands() -> None:
    registry = started(pipeline())
    mine, other = (
        judge(pipeline([*BASE, (name, str, "")]), registry, log(20)).record[0] for name in "ab"
    )
    after = registry.apply(other).apply(mine)
    assert after.types[EVENTS][1:] == (other,)
    # The slower one looks again: its type against the other's.
    verdict = judge(pipeline([*BASE, ("a", str, "")]), after, log(20))
    assert [event.version for event in verdict.record] == [3]


def test_an_attribute_that_json_names_otherwise_is_followed() -> None:
    fields = [*BASE, ("tip", int, 0)]
    reads = definition(tip=Number(Value("tip")))
    before = pipeline(fields, reads, rename={"tip": "Tip"})
    after = pipeline([*BASE, ("tip", int, 5)], reads, rename={"tip": "Tip"})
    (difference,) = judge(after, started(before), log()).refused
    assert difference.field == "Tip"
    assert msgspec.structs.fields(after.events.type)[-1].encode_name == "Tip"
