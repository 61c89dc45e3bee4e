"""Decoding: what is usable, what is not and why, and how values become texts and numbers."""

from enum import Enum
from typing import Annotated, Literal

import msgspec
import numpy as np
import pytest

from features.aggregations import Count, Mean
from features.definition import Category, Definition, Number
from features.engine.columns import EventDecoder
from streams.errors import DefinitionError
from streams.expressions import Equals, Value
from streams.stream import EventStream
from tests.features.rides import DEFINITION, RIDES, START_MS, log_of, ride

GOOD = ride(1, 0)


@pytest.mark.parametrize(
    ("value", "error", "reason"),
    [
        (None, "NullValue", "no value"),
        (b"", "DecodeError", "truncated"),
        (b"not json", "DecodeError", "malformed"),
        (GOOD[:-1], "DecodeError", "truncated"),
        (GOOD + b"}", "DecodeError", "trailing"),
        (b"\xff\xfe", "DecodeError", "malformed"),
        (GOOD.replace(b"ann", b"\xff"), "DecodeError", "utf-8"),
        (GOOD.replace(b"ann", rb"\ud800"), "DecodeError", "surrogate"),
        (b'{"x":' + b"[" * 100_000, "DecodeError", "recursion"),
        (b"null", "ValidationError", "Expected `object`"),
        (b"[]", "ValidationError", "Expected `object`"),
        (b"{}", "ValidationError", "missing required field `ride`"),
        (GOOD.replace(b'"ann"', b"null"), "ValidationError", "$.rider"),
        (GOOD.replace(b'"ann"', b"7"), "ValidationError", "$.rider"),
        (ride(1, 0, price="3"), "ValidationError", "$.price"),
        (ride(1, 0, stops=-1), "ValidationError", "$.stops"),
        (ride(1, 0, zone="east"), "ValidationError", "$.zone"),
        (ride(1, 0, at=1.5), "ValidationError", "$.at"),
        (ride(1, 0, at=START_MS * 1000), "ValidationError", "milliseconds since the epoch"),
        (ride(1, 0, at=10**18), "ValidationError", "milliseconds since the epoch"),
        (GOOD.replace(str(START_MS).encode(), b"9" * 30), "ValidationError", "too large"),
        (GOOD[:-1] + b',"price":NaN}', "DecodeError", "malformed"),
        (GOOD[:-1] + b',"price":1e999}', "ValidationError", "out of range"),
    ],
)
def test_a_bad_record_costs_only_itself(value: bytes | None, error: str, reason: str) -> None:
    columns, dead = EventDecoder(DEFINITION, RIDES).decode(log_of([GOOD, value, ride(2, 1)]))
    assert columns.event_ids == ["r1", "r2"]
    assert columns.rows.tolist() == [0, 2]
    (letter,) = dead
    assert (letter.error, letter.offset, letter.value) == (error, 2, value)
    assert reason in letter.reason


def test_many_bad_records_among_many() -> None:
    bad = {i: ride(i, 0, at=10**18) if i % 3 else b"{" for i in range(0, 500, 7)}
    values: list[bytes | None] = [bad.get(i, ride(i, i)) for i in range(500)]
    columns, dead = EventDecoder(DEFINITION, RIDES).decode(log_of(values))
    assert sorted(letter.offset // 2 for letter in dead) == sorted(bad)
    assert columns.rows.tolist() == [i for i in range(500) if i not in bad]


def test_missing_numbers_are_nan_and_missing_texts_empty() -> None:
    decoder = EventDecoder(DEFINITION, RIDES)
    columns, _ = decoder.decode(log_of([ride(1, 0), ride(2, 0, price=2, zone="north", bike="é")]))
    price = decoder.expressions.index(Value("price"))
    assert np.array_equal(columns.numbers[:, price], [np.nan, 2.0], equal_nan=True)
    assert columns.texts == {"zone": ["", "north"], "member": ["false"] * 2, "bike": ["0", "é"]}


class Colour(Enum):
    RED = "red"


class Odd(msgspec.Struct, rename="camel"):
    odd_id: Annotated[int, msgspec.Meta(ge=0)]
    odd_entity: int
    odd_time: int
    colour: Colour = Colour.RED
    level: Literal[1, 2] = 1
    size: float = 0.5
    name: str = "nan"
    huge: int = 0
    gaps: float = float("nan")


ODD = EventStream(Odd, id="odd_id", entity="odd_entity", event_time="odd_time")


def odd(**fields: object) -> bytes:
    return msgspec.json.encode({"oddId": 2**70, "oddEntity": -5, "oddTime": -1, **fields})


def test_ids_entities_and_categories_of_other_types_are_texts() -> None:
    names = ("colour", "level", "size")
    decoder = EventDecoder(Definition(1, {name: Category(name) for name in names}), ODD)
    columns, dead = decoder.decode(log_of([odd()]))
    assert not dead
    assert columns.event_ids == [str(2**70)]
    assert columns.entities == ["-5"]
    assert columns.event_times_ms.tolist() == [-1]
    assert columns.texts == {"colour": ["red"], "level": ["1"], "size": ["0.5"]}


def test_a_number_too_large_for_a_float_is_a_dead_letter() -> None:
    decoder = EventDecoder(Definition(1, {"huge": Number(Value("huge"))}), ODD)
    columns, dead = decoder.decode(log_of([odd(huge=10**400), odd(huge=10**300)]))
    assert columns.numbers.tolist() == [[1e300]]
    assert [letter.error for letter in dead] == ["ValidationError"]


def test_only_required_plain_fields_never_miss_a_value() -> None:
    def never_missing(of: Value | Equals, events: EventStream) -> bool:
        definition = Definition(1, {"mean": Mean(of, "1h", "1h"), "n": Count("1h", "1h")})
        return bool(EventDecoder(definition, events).never_missing)

    assert never_missing(Value("at"), RIDES)
    assert never_missing(Equals("rider", "ann"), RIDES)
    assert not never_missing(Value("price"), RIDES)
    assert not never_missing(Equals("zone", "north"), RIDES)
    assert not never_missing(Value("gaps"), ODD)
    assert not never_missing(Value("name"), ODD)


def test_a_definition_that_does_not_fit_the_type_is_refused() -> None:
    with pytest.raises(DefinitionError, match="no such field"):
        EventDecoder(Definition(1, {"x": Category("nothing")}), RIDES)


def test_what_is_no_finite_number_is_missing() -> None:
    decoder = EventDecoder(Definition(1, {"name": Number(Value("name"))}), ODD)
    columns, dead = decoder.decode(log_of([odd(name="inf"), odd(name="2.5"), odd(name="many")]))
    assert np.array_equal(columns.numbers[:, 0], [np.nan, 2.5], equal_nan=True)
    assert [letter.offset for letter in dead] == [4]
