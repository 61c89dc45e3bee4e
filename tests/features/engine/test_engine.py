"""The engine against the oracle, on random logs, cut at random, restored at random."""

import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from features.definition import Definition
from features.engine.engine import FeatureEngine, Processed
from features.records import FeatureCodec, FeatureRows
from streams.dead_letters import DeadLetter
from streams.errors import StateError
from streams.stream import EventStream
from tests.features.oracle import Oracle, Row
from tests.features.rides import DEFINITION, FEATURES, RIDES, Ride, log_of, ride

RIDERS = ["ann", "bob", "Zoë 🚲", ""]
JUNK: list[bytes | None] = [
    None,
    b"",
    b"null",
    b'{"ride":"x","rider":"ann","at":15',
    b'{"ride":"x","rider":"ann"}',
    b'{"ride":"x","rider":null,"at":1}',
    b'{"ride":"x","rider":"ann","at":1583625600000,"price":NaN}',
    b'{"ride":"x","rider":"ann","at":1583625600000,"stops":-1}',
    b'{"ride":"x","rider":"ann","at":1583625600000000000}',
    b'{"ride":"x","rider":"ann","at":99999999999999999999999999}',
    b'{"ride":"\xff","rider":"ann","at":1583625600000}',
]


@st.composite
def logs(draw: st.DrawFn) -> list[bytes | None]:
    """Values with late, out-of-order, repeated and bad ones among them."""
    values: list[bytes | None] = []
    at_s = 7 * 3600.0 - 20
    quarter = st.integers(-40, 40).map(lambda quarters: quarters / 4)
    for n in range(draw(st.integers(0, 60))):
        if draw(st.integers(0, 9)) == 0:
            values.append(draw(st.sampled_from(JUNK)))
            continue
        at_s += draw(st.sampled_from([0, 0, 0.25, 1, 3, 7.5, 30]))
        back_s = draw(st.sampled_from([0, 0, 0, 0.5, 5, 11, 12, 12.001, 13, 20, 60, 4000]))
        number = draw(st.integers(0, n)) if draw(st.integers(0, 4)) == 0 else n
        values.append(
            ride(
                number,
                at_s - back_s,
                rider=draw(st.sampled_from(RIDERS)),
                price=draw(st.none() | quarter),
                stops=draw(st.integers(0, 5)),
                member=draw(st.booleans()),
                zone=draw(st.sampled_from([None, "north", "south"])),
                bike=draw(st.sampled_from([7, "7", "é"])),
            )
        )
    return values


@settings(deadline=None, max_examples=150)
@given(logs())
def test_every_row_is_what_the_oracle_says(values: list[bytes | None]) -> None:
    engine, oracle = FeatureEngine(DEFINITION, RIDES), Oracle(DEFINITION, RIDES)
    processed = engine.process(log_of(values))
    expected = {2 * i: row for i, row in enumerate(map(oracle.take, values)) if row is not None}
    assert processed.rows.source_offsets.tolist() == list(expected)
    for actual, wanted in zip(as_dicts(processed.rows), expected.values(), strict=True):
        assert_same(actual, wanted)
    assert processed.late == engine.late == oracle.late
    assert engine.watermark_ms == oracle.watermark
    dead = [letter.offset for letter in processed.dead]
    assert sorted(dead + list(expected)) == [2 * i for i in range(len(values))]
    assert dead == sorted(dead)
    assert processed.keys == [f"key{offset}".encode() for offset in expected]


@settings(deadline=None, max_examples=60)
@given(logs(), st.data())
def test_cuts_and_restores_change_no_bit(values: list[bytes | None], data: st.DataObject) -> None:
    whole = FeatureEngine(DEFINITION, RIDES)
    at_once = whole.process(log_of(values))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=6)))
    engine = FeatureEngine(DEFINITION, RIDES)
    parts: list[Processed] = []
    for first, end in zip([0, *cuts], [*cuts, len(values)], strict=True):
        if data.draw(st.booleans()):
            engine = FeatureEngine.restore(DEFINITION, RIDES, engine.snapshot())
        parts.append(engine.process(log_of(values[first:end], first)))
    codec = FeatureCodec(DEFINITION, RIDES)
    assert [v for part in parts for v in codec.encode(part.rows)] == codec.encode(at_once.rows)
    numeric = np.concatenate([part.rows.numeric for part in parts])
    assert numeric.tobytes() == at_once.rows.numeric.tobytes()
    assert [letter for part in parts for letter in part.dead] == at_once.dead
    assert sum(part.late for part in parts) == at_once.late == engine.late
    assert_equal_arrays(engine.snapshot(), whole.snapshot())


def test_long_busy_log_with_any_prices() -> None:
    """Thousands of events: rings move, tables grow, generations pass; sums to 1e-12."""
    rng = np.random.default_rng(11)
    n = 2000
    at_s = (np.cumsum(rng.exponential(0.4, n)) - rng.exponential(3, n)).tolist()
    prices = rng.lognormal(3, 2, n).tolist()
    riders = rng.integers(0, 90, n) * (rng.random(n) < 0.5)
    values: list[bytes | None] = [
        ride(i, at_s[i], rider=f"rider{riders[i]}", price=prices[i], stops=i % 5) for i in range(n)
    ]
    small = Definition(
        1, {n: FEATURES[n] for n in ("rides_30s", "spent_60s", "price_30s", "since")}
    )
    oracle = Oracle(small, RIDES)
    expected = [row for row in map(oracle.take, values) if row is not None]
    one, other = FeatureEngine(small, RIDES), FeatureEngine(small, RIDES)
    rows = one.process(log_of(values)).rows
    for actual, wanted in zip(as_dicts(rows, small), expected, strict=True):
        assert_same(actual, wanted, relative=1e-12)
    pieces = [other.process(log_of(values[a : a + 37], a)).rows.numeric for a in range(0, n, 37)]
    assert np.concatenate(pieces).tobytes() == rows.numeric.tobytes()
    assert_equal_arrays(one.snapshot(), other.snapshot())
    assert oracle.late > 20


def test_reasons_of_dead_letters() -> None:
    values: list[bytes | None] = [
        ride(1, 0),
        ride(1, 5),
        None,
        b"{",
        ride(2, 6, stops=-1),
        ride(3, 7),
    ]
    processed = FeatureEngine(DEFINITION, RIDES).process(log_of(values))
    assert [(letter.offset, letter.error) for letter in processed.dead] == [
        (2, "DuplicateEvent"),
        (4, "NullValue"),
        (6, "DecodeError"),
        (8, "ValidationError"),
    ]
    duplicate, _, _, invalid = processed.dead
    assert "'r1'" in duplicate.reason
    assert "40s" in duplicate.reason
    assert "$.stops" in invalid.reason
    assert duplicate == DeadLetter(
        error="DuplicateEvent",
        reason=duplicate.reason,
        topic="rides.events.v1",
        partition=1,
        offset=2,
        key=b"key2",
        value=values[1],
        timestamp_ms=int(log_of(values).timestamps_ms[1]),
    )
    assert processed.rows.event_ids == ["r1", "r3"]


def test_the_first_event_of_an_entity_sees_nothing_and_the_second_the_first() -> None:
    values: list[bytes | None] = [ride(1, 0, price=2.5), ride(2, 1, price=4.0)]
    first, second = as_dicts(FeatureEngine(DEFINITION, RIDES).process(log_of(values)).rows)
    assert first["rides_30s"] == 0
    assert first["spent_30s"] == 0
    assert math.isnan(float(first["price_30s"]))
    assert math.isnan(float(first["since"]))
    assert second["rides_30s"] == 1
    assert second["spent_30s"] == 2.5
    assert second["since"] == 1
    assert second["dearer"] == 1.5


def test_a_late_event_changes_no_window_but_gets_a_row() -> None:
    values: list[bytes | None] = [
        ride(1, 100),
        ride(2, 100 - 12.001),
        ride(3, 100 - 12),
        ride(4, 100),
    ]
    processed = FeatureEngine(DEFINITION, RIDES).process(log_of(values))
    assert processed.late == 1
    assert len(processed.rows) == 4
    assert [row["rides_30s"] for row in as_dicts(processed.rows)] == [0, 0, 0, 2]


def test_windows_of_a_very_late_event_are_missing_not_wrong() -> None:
    values: list[bytes | None] = [*(ride(i, i) for i in range(100)), ride(100, 40.5)]
    row = as_dicts(FeatureEngine(DEFINITION, RIDES).process(log_of(values)).rows)[-1]
    assert math.isnan(float(row["rides_30s"]))
    assert math.isnan(float(row["spent_60s"])) is False  # 20 s tiles reach that far back
    assert row["since"] == 0


def test_an_empty_batch_is_fine() -> None:
    processed = FeatureEngine(DEFINITION, RIDES).process(log_of([]))
    assert len(processed.rows) == 0
    assert processed.rows.numeric.shape == (0, len(DEFINITION.names("numeric")))
    assert FeatureCodec(DEFINITION, RIDES).encode(processed.rows) == []


def test_a_definition_without_windows_or_numbers() -> None:
    static = Definition(1, {"zone": FEATURES["zone"]})
    engine = FeatureEngine(static, RIDES)
    engine = FeatureEngine.restore(static, RIDES, engine.snapshot())
    rows = engine.process(log_of([ride(1, 0, zone="north")])).rows
    assert rows.numeric.shape == (1, 0)
    assert rows.categories == [["north"]]
    engine = FeatureEngine.restore(static, RIDES, engine.snapshot())
    assert engine.process(log_of([ride(1, 0)])).dead


def test_a_snapshot_of_another_definition_is_refused() -> None:
    arrays = FeatureEngine(DEFINITION, RIDES).snapshot()
    other = EventStream(Ride, "ride", "rider", "at", lateness="13s", dedupe="40s")
    with pytest.raises(StateError, match="another definition"):
        FeatureEngine.restore(DEFINITION, other, arrays)


def damaged() -> list[tuple[str, Any]]:
    arrays = FeatureEngine(DEFINITION, RIDES)
    arrays.process(log_of([ride(i, i, rider=f"r{i % 3}") for i in range(20)]))
    whole = arrays.snapshot()
    return [
        ("format", np.array([99])),
        ("cells", whole["cells"][:-1]),
        ("cells", np.append(whole["cells"], 1.0)),
        ("tile_ids", whole["tile_ids"][1:]),
        ("tile_counts", whole["tile_counts"] + 1000),
        ("tile_counts", whole["tile_counts"][1:]),
        ("last_ms", whole["last_ms"][1:]),
        ("seen_ids", whole["seen_ids"][:, 0]),
        ("watermark_ms", np.empty(0, dtype=np.int64)),
        ("entity_ends", whole["entity_ends"][1:]),
        ("entity_bytes", whole["entity_bytes"][1:]),
        ("late", None),
    ]


@pytest.mark.parametrize(("name", "array"), damaged())
def test_a_damaged_snapshot_is_refused(name: str, array: Any) -> None:
    engine = FeatureEngine(DEFINITION, RIDES)
    engine.process(log_of([ride(i, i, rider=f"r{i % 3}") for i in range(20)]))
    arrays = engine.snapshot()
    if array is None:
        del arrays[name]
    else:
        arrays[name] = array
    with pytest.raises(StateError, match="snapshot"):
        FeatureEngine.restore(DEFINITION, RIDES, arrays)


def test_a_snapshot_is_plain_arrays_that_later_events_leave_alone() -> None:
    engine = FeatureEngine(DEFINITION, RIDES)
    engine.process(log_of([ride(i, i) for i in range(20)]))
    arrays = engine.snapshot()
    copies = {name: array.copy() for name, array in arrays.items()}
    engine.process(log_of([ride(i, i) for i in range(20, 60)], 20))
    assert all(array.dtype.kind in "iuf" for array in arrays.values())
    assert_equal_arrays(arrays, copies)


def as_dicts(rows: FeatureRows, definition: Definition = DEFINITION) -> list[Row]:
    columns: dict[str, list[Any]] = {
        **dict(zip(definition.names("numeric"), rows.numeric.T.tolist(), strict=True)),
        **dict(zip(definition.names("category"), rows.categories, strict=True)),
    }
    return [{name: column[i] for name, column in columns.items()} for i in range(len(rows))]


def assert_same(actual: Row, wanted: Row, relative: float = 0.0) -> None:
    assert actual.keys() == wanted.keys()
    for name, value in wanted.items():
        if isinstance(value, str):
            assert actual[name] == value, name
        else:
            assert actual[name] == pytest.approx(value, rel=relative, abs=relative, nan_ok=True), (
                name,
                actual,
                wanted,
            )


def assert_equal_arrays(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype, name
        assert array.shape == other[name].shape, name
        assert array.tobytes() == other[name].tobytes(), name
