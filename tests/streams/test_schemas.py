"""What may change in a record's type, and what the log does not allow."""

import datetime
import enum
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta, Struct, defstruct

from streams.record_schema import schema_of
from streams.schemas import Change, compare_schemas


class Paid(enum.Enum):
    CASH = "cash"
    CARD = "card"


class Place(Struct):
    street: str
    zip: str = ""


class PlaceWithCity(Struct):
    street: str
    zip: str = ""
    city: str = "?"


class PlaceWithoutZip(Struct):
    street: str


class PlaceByNumber(Struct):
    street: int
    zip: str = ""


class Tree(Struct):
    weight: int
    below: "list[Tree]" = msgspec.field(default_factory=list)


class WiderTree(Struct):
    weight: float
    below: "list[WiderTree]" = msgspec.field(default_factory=list)


class NarrowerTree(Struct):
    weight: Literal[1, 2]
    below: "list[NarrowerTree]" = msgspec.field(default_factory=list)


class Car(Struct, tag="car"):
    wheels: int


class Boat(Struct, tag="boat"):
    length: float


class Plane(Struct, tag="plane"):
    engines: int


def record(*fields: Any, **options: Any) -> type[Struct]:
    """Return a type named Ride with ``fields``, as defstruct takes them."""
    return defstruct("Ride", fields, **options)


def one(type_: Any) -> type[Struct]:
    return record(("x", type_))


def changes(old: Any, new: Any) -> list[Change]:
    return compare_schemas(schema_of(old), schema_of(new))


ID = ("id", str)
MANY: Any = msgspec.field(default_factory=list)
AWARE = Annotated[datetime.datetime, Meta(tz=True)]

COMPATIBLE: list[tuple[str, type[Struct], type[Struct], list[tuple[str, str, str]]]] = [
    ("nothing", record(ID), record(ID), []),
    ("order of fields", record(ID, ("a", int)), record(("a", int), ID), []),
    ("added with default", record(ID), record(ID, ("a", int, 0)), [("a", "added", "")]),
    ("added list", record(ID), record(ID, ("a", list[int], MANY)), [("a", "added", "")]),
    ("added optional", record(ID), record(ID, ("a", int | None, None)), [("a", "added", "")]),
    ("removed with default", record(ID, ("a", int, 0)), record(ID), [("a", "removed", "")]),
    ("int to float", one(int), one(float), [("x", "widened", "text")]),
    ("int or float to float", one(int | float), one(float), [("x", "widened", "text")]),
    ("int to int or float", one(int), one(int | float), [("x", "widened", "")]),
    ("made nullable", one(int), one(int | None), [("x", "widened", "")]),
    ("also text", one(int), one(int | str), [("x", "widened", "")]),
    ("anything", one(int), one(Any), [("x", "widened", "")]),
    ("anything of a time", one(AWARE), one(Any), [("x", "widened", "value")]),
    ("text of a time", one(AWARE), one(str), [("x", "widened", "value")]),
    ("time of any zone", one(AWARE), one(datetime.datetime), [("x", "widened", "")]),
    ("given a default", one(int), record(("x", int, 3)), [("x", "optional", "")]),
    ("another default", record(("x", int, 3)), record(("x", int, 4)), [("x", "default", "value")]),
    ("Literal added", one(Literal["a"]), one(Literal["a", "b"]), [("x", "widened", "")]),
    ("Literal to text", one(Literal["a"]), one(str), [("x", "widened", "")]),
    ("Literal to both", one(Literal["a", 1]), one(str | int), [("x", "widened", "")]),
    ("Enum to Literal", one(Paid), one(Literal["card", "cash"]), []),
    ("bound dropped", one(Annotated[int, Meta(ge=0)]), one(int), [("x", "widened", "")]),
    (
        "bound loosened",
        one(Annotated[float, Meta(gt=0, lt=9)]),
        one(Annotated[float, Meta(ge=0, le=9)]),
        [("x", "widened", "")],
    ),
    ("same bound", one(Annotated[int, Meta(gt=0)]), one(Annotated[int, Meta(ge=1)]), []),
    (
        "length loosened",
        one(Annotated[str, Meta(max_length=3)]),
        one(Annotated[str, Meta(max_length=4)]),
        [("x", "widened", "")],
    ),
    (
        "multiple loosened",
        one(Annotated[int, Meta(multiple_of=6)]),
        one(Annotated[int, Meta(multiple_of=3)]),
        [("x", "widened", "")],
    ),
    ("items widened", one(list[int]), one(list[float]), [("x[]", "widened", "text")]),
    ("values widened", one(dict[str, int]), one(dict[str, int | None]), [("x{}", "widened", "")]),
    ("inner added", one(Place), one(PlaceWithCity), [("x.city", "added", "")]),
    ("inner removed", one(Place), one(PlaceWithoutZip), [("x.zip", "removed", "")]),
    ("inner in a list", one(list[Place]), one(list[PlaceWithCity]), [("x[].city", "added", "")]),
    ("holds itself", Tree, WiderTree, [("weight", "widened", "text")]),
    ("a type more", one(Car | Boat), one(Car | Boat | Plane), [("x", "widened", "")]),
    (
        "unknown fields allowed",
        record(ID, forbid_unknown_fields=True),
        record(ID),
        [("*", "widened", "")],
    ),
    (
        "place added",
        record(ID, array_like=True),
        record(ID, ("a", int, 0), array_like=True),
        [("[1]", "added", "")],
    ),
]

INCOMPATIBLE: list[tuple[str, type[Struct], type[Struct], str, str, Any]] = [
    ("added", record(ID), record(ID, ("a", int)), "a", "added", {"id": "1"}),
    ("float to int", one(float), one(int), "x", "narrowed", {"x": 0.5}),
    ("text to int", one(str), one(int), "x", "narrowed", {"x": "a"}),
    ("int to text", one(int), one(str), "x", "narrowed", {"x": 1}),
    ("int to bool", one(int), one(bool), "x", "narrowed", {"x": 1}),
    ("null gone", one(int | None), one(int), "x", "narrowed", {"x": None}),
    ("anything to int", one(Any), one(int), "x", "narrowed", {"x": "a"}),
    ("text to time", one(str), one(AWARE), "x", "narrowed", {"x": "a"}),
    ("decimal to text", one(Decimal), one(str), "x", "narrowed", {"x": 1}),
    ("time needs a zone", one(datetime.datetime), one(AWARE), "x", "narrowed",
     {"x": "2024-01-01T00:00:00"}),
    ("Literal gone", one(Literal["a", "b"]), one(Literal["a"]), "x", "narrowed", {"x": "b"}),
    ("text to Literal", one(str), one(Literal["a"]), "x", "narrowed", {"x": "b"}),
    ("Enum value gone", one(Paid), one(Literal["cash"]), "x", "narrowed", {"x": "card"}),
    ("Literal out of bounds", one(Literal[1, 9]), one(Annotated[int, Meta(lt=5)]), "x", "narrowed",
     {"x": 9}),
    ("bound added", one(int), one(Annotated[int, Meta(ge=0)]), "x", "narrowed", {"x": -1}),
    ("bound tightened", one(Annotated[float, Meta(ge=0)]), one(Annotated[float, Meta(gt=0)]), "x",
     "narrowed", {"x": 0.0}),
    ("int to bound float", one(int), one(Annotated[float, Meta(ge=0)]), "x", "narrowed",
     {"x": -1}),
    ("length added", one(str), one(Annotated[str, Meta(min_length=1)]), "x", "narrowed", {"x": ""}),
    ("items added", one(list[int]), one(Annotated[list[int], Meta(max_length=1)]), "x", "narrowed",
     {"x": [1, 2]}),
    ("pattern added", one(str), one(Annotated[str, Meta(pattern="^a")]), "x", "narrowed",
     {"x": "b"}),
    ("multiple added", one(int), one(Annotated[int, Meta(multiple_of=2)]), "x", "narrowed",
     {"x": 1}),
    ("items narrowed", one(list[int | str]), one(list[int]), "x[]", "narrowed", {"x": ["a"]}),
    ("values narrowed", one(dict[str, float]), one(dict[str, int]), "x{}", "narrowed",
     {"x": {"a": 0.5}}),
    ("keys narrowed", one(dict[str, int]), one(dict[int, int]), "x{key}", "narrowed",
     {"x": {"a": 1}}),
    ("inner narrowed", one(Place), one(PlaceByNumber), "x.street", "narrowed",
     {"x": {"street": "a"}}),
    ("deep narrowed", Tree, NarrowerTree, "weight", "narrowed", {"weight": 3}),
    ("a type less", one(Car | Boat), one(Car), "x", "narrowed",
     {"x": {"type": "boat", "length": 1}}),
    ("tuple shorter", one(tuple[int, int]), one(tuple[int]), "x", "narrowed", {"x": [1, 2]}),
    ("default gone", record(("x", int, 3)), one(int), "x", "required", {}),
    ("unknown forbidden", record(ID), record(ID, forbid_unknown_fields=True), "*", "narrowed",
     {"id": "1", "more": 2}),
    ("removed and forbidden", record(ID, ("a", int, 0), forbid_unknown_fields=True),
     record(ID, forbid_unknown_fields=True), "a", "removed", {"id": "1", "a": 2}),
    ("place taken", record(("a", int), ("b", int), array_like=True),
     record(("b", int), array_like=True), "[0]", "narrowed", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "expected"), [c[1:] for c in COMPATIBLE], ids=[c[0] for c in COMPATIBLE]
)
def test_what_may_change(
    old: type[Struct], new: type[Struct], expected: list[tuple[str, str, str]]
) -> None:
    found = changes(old, new)
    assert [(c.field, c.kind, c.rereads) for c in found] == expected
    assert all(c.compatible and not c.remedy for c in found)


@pytest.mark.parametrize(
    ("old", "new", "field", "kind", "witness"),
    [c[1:] for c in INCOMPATIBLE],
    ids=[c[0] for c in INCOMPATIBLE],
)
def test_what_the_log_does_not_allow(
    old: type[Struct], new: type[Struct], field: str, kind: str, witness: Any
) -> None:
    broken = [change for change in changes(old, new) if not change.compatible]
    assert (field, kind) in [(c.field, c.kind) for c in broken]
    assert all(c.breaks == "old records" and c.remedy for c in broken)
    if witness is not None:  # the old type takes it, the new one does not
        value = msgspec.json.encode(witness)
        msgspec.json.decode(value, type=old)
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(value, type=new)


def test_a_required_field_is_not_removed_while_old_readers_need_it() -> None:
    (change,) = changes(record(ID, ("a", int)), record(ID))
    assert (change.field, change.kind, change.breaks) == ("a", "removed", "old readers")
    assert "default first" in change.remedy


def test_a_change_says_in_words_what_was_and_is() -> None:
    (change,) = changes(
        one(Annotated[int, Meta(ge=0)] | None), one(Literal["a", "b"] | Annotated[int, Meta(gt=2)])
    )
    assert change.was == "integer ≥ 0 or null"
    assert change.now == 'one of "a", "b" or integer > 2'


def test_equal_types_have_equal_schemas() -> None:
    made = [record(ID, ("a", frozenset[str], frozenset({"b", "a", "c"}))) for _ in range(2)]
    assert schema_of(made[0]) == schema_of(made[1])


# What is compatible is read: for any two related types, and any record of the old one

Typed = tuple[Any, st.SearchStrategy[Any]]
"""A type, and values of it as JSON has them."""


def _bound(limit: Meta, values: st.SearchStrategy[Any]) -> Typed:
    return Annotated[int, limit], values


NUMBERS: st.SearchStrategy[Typed] = st.one_of(
    st.just((int, st.integers(-5, 5))),
    st.just((float, st.integers(-5, 5) | st.sampled_from([0.5, -2.5]))),
    st.integers(-3, 3).map(lambda n: _bound(Meta(ge=n), st.integers(n, n + 3))),
    st.integers(-3, 3).map(lambda n: _bound(Meta(gt=n), st.integers(n + 1, n + 3))),
    st.integers(-3, 3).map(lambda n: _bound(Meta(lt=n), st.integers(n - 3, n - 1))),
    st.integers(1, 6).map(
        lambda n: _bound(Meta(multiple_of=n), st.integers(-2, 2).map(lambda i: i * n))
    ),
    st.integers(-3, 3).map(
        lambda n: (
            Annotated[float, Meta(gt=n)], st.sampled_from([n + 0.1, n + 0.5, n + 1, n + 2])
        )
    ),
    st.sets(st.integers(-2, 3), min_size=1).map(
        lambda s: (Literal[tuple(sorted(s))], st.sampled_from(sorted(s)))
    ),
)  # fmt: skip
TEXTS: st.SearchStrategy[Typed] = st.one_of(
    st.just((str, st.sampled_from(["", "a", "bb", "ccc"]))),
    st.integers(0, 3).map(
        lambda n: (Annotated[str, Meta(min_length=n)], st.sampled_from(["a" * n, "b" * (n + 1)]))
    ),
    st.integers(0, 3).map(
        lambda n: (Annotated[str, Meta(max_length=n)], st.sampled_from(["", "a" * n]))
    ),
    st.sets(st.sampled_from(["", "a", "bb"]), min_size=1).map(
        lambda s: (Literal[tuple(sorted(s))], st.sampled_from(sorted(s)))
    ),
)
ANYTHING: Typed = (Any, st.sampled_from([None, 1, "a", [1]]))


def _inside(typed: Typed, container: str) -> Typed:
    type_, values = typed
    match container:
        case "null":
            return type_ | None, values | st.none()
        case "list":
            return list[type_], st.lists(values, max_size=2)  # type: ignore[valid-type]
        case "dict":
            keys = st.sampled_from(["k", "l"])
            return dict[str, type_], st.dictionaries(keys, values, max_size=2)  # type: ignore[valid-type]
        case "record":
            return defstruct("Inner", [("v", type_)]), st.fixed_dictionaries({"v": values})
        case _:
            return typed


@st.composite
def typed(draw: st.DrawFn, kind: st.SearchStrategy[Typed], containers: list[str]) -> Typed:
    made = draw(st.just(ANYTHING) | kind if draw(st.integers(0, 9)) == 0 else kind)
    for container in containers:
        made = _inside(made, container)
    return _inside(made, draw(st.sampled_from(["", "", "null"]))) if made is not ANYTHING else made


@st.composite
def two_types(
    draw: st.DrawFn,
) -> tuple[type[Struct], type[Struct], st.SearchStrategy[dict[str, Any]]]:
    """Draw an old and a new type whose fields have much in common, and records of the old one."""
    fields: tuple[list[Any], list[Any]] = ([], [])
    needed: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for name in "abc":
        kind = draw(st.sampled_from([NUMBERS, TEXTS]))
        containers = draw(st.lists(st.sampled_from(["list", "dict", "record"]), max_size=2))
        for side in (0, 1):
            type_, values = draw(typed(kind, containers))
            presence = draw(st.sampled_from(["required", "required", "optional", "absent"]))
            if presence == "absent":
                continue
            default = [msgspec.UNSET] if presence == "optional" else []
            fields[side].append((name, type_, *default))
            if side == 0:
                (optional if default else needed)[name] = values
    forbade, forbids = draw(st.sampled_from([(False, False), (True, False), (True, True)]))
    old, new = (
        defstruct("Record", part, kw_only=True, forbid_unknown_fields=forbid)
        for part, forbid in zip(fields, (forbade, forbids), strict=True)
    )
    if not forbade and "c" not in old.__struct_fields__ + new.__struct_fields__:
        optional["c"] = st.just("unknown")
    return old, new, st.fixed_dictionaries(needed, optional=optional)


@settings(max_examples=600, deadline=None)
@given(two_types(), st.data())
def test_compatible_means_that_every_old_record_is_read(
    types: tuple[type[Struct], type[Struct], st.SearchStrategy[dict[str, Any]]],
    data: st.DataObject,
) -> None:
    old, new, records = types
    assert changes(old, old) == []
    if all(change.breaks != "old records" for change in changes(old, new)):
        for record in data.draw(st.lists(records, min_size=1, max_size=8)):
            value = msgspec.json.encode(record)
            msgspec.json.decode(value, type=old)
            msgspec.json.decode(value, type=new)
