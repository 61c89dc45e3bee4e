"""The quick way to columns gives what the codec gives, to the bit, or steps aside."""

from typing import Annotated, Any
from uuid import uuid4

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.aggregations import Count
from features.definition import Category, Definition, Number
from features.records import FeatureCodec, FeatureRows
from streams.batch import LogBatch
from streams.errors import StateError
from streams.expressions import Value
from streams.stream import EventStream
from training.dataset.arrow_json import ArrowFeatureReader
from training.dataset.columns import FeatureDecoder


class Event(msgspec.Struct):
    """An event of the tests."""

    id: str
    device: str
    at_ms: int
    level: float
    kind: str
    site: Annotated[str, msgspec.Meta(max_length=9)]


EVENTS = EventStream(Event, id="id", entity="device", event_time="at_ms")
DEFINITION = Definition(
    3,
    {"level": Number(Value("level")), "kind": Category("kind"), "twice": Number(Value("level"))},
    groups=("site",),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NUMBER = st.floats(allow_infinity=False) | st.just(float("nan"))


def batch_of(values: list[bytes | None], partition: int = 1) -> LogBatch:
    n = len(values)
    offsets = np.arange(n, dtype=np.int64)
    return LogBatch(f"t{uuid4().hex}", partition, offsets, offsets, [None] * n, values, n)


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, st.integers(-(2**62), 2**62), NUMBER, NUMBER), min_size=1))
def test_equals_the_codec(rows: list[tuple[str, str, int, float, float]]) -> None:
    ids, texts, times, first, second = map(list, zip(*rows, strict=True))
    codec = FeatureCodec(DEFINITION, EVENTS)
    values = codec.encode(
        FeatureRows(
            partition=1,
            event_ids=ids,
            entities=texts,
            event_times_ms=np.array(times, np.int64),
            source_offsets=np.arange(len(rows)),
            numeric=np.array([first, second], np.float64).T,
            categories=[ids],
            groups=[texts],
        )
    )
    batch = batch_of(list(values))
    quick = ArrowFeatureReader(DEFINITION, EVENTS).read(batch)
    assert quick is not None, "ordinary records must take the quick way"
    wanted = codec.decode(batch)
    offsets, found_ids, entities, found_times, level, twice, kinds, sites = quick
    assert offsets.to_pylist() == wanted.source_offsets.tolist()
    assert found_ids.to_pylist() == kinds.to_pylist() == wanted.event_ids
    assert entities.to_pylist() == sites.to_pylist() == wanted.entities
    assert found_times.to_pylist() == wanted.event_times_ms.tolist()
    for array, column in zip((level, twice), wanted.numeric.T, strict=True):
        found = array.to_numpy()
        assert np.array_equal(np.isnan(found), np.isnan(column))
        known = ~np.isnan(column)
        assert found[known].tobytes() == column[known].tobytes()


GOOD = {
    "event_id": "e", "entity": "d", "event_time_ms": 5, "definition": 3,
    "source": {"partition": 1, "offset": 7},
    "features": {"level": 1.5, "kind": "k", "twice": None}, "groups": {"site": "s"},
}  # fmt: skip


def changed(**changes: Any) -> bytes:
    return msgspec.json.encode({**GOOD, **changes})


@pytest.mark.parametrize(
    "foreign",
    [
        changed(definition=2),
        changed(source={"partition": 2, "offset": 7}),
        changed(features={"level": 1.5, "kind": "k"}),  # lacks a number: not the same as null
        changed(features={"level": 1.5, "kind": None, "twice": 1}),
        changed(features={"level": 1.5, "kind": "k", "twice": 1, "more": 2}),
        changed(features={"level": "1.5", "kind": "k", "twice": 1}),
        changed(groups={}),
        changed(event_time_ms=5.5),
        changed(event_id=None),
        msgspec.json.encode(GOOD).replace(b'"e"', b'"\xff"'),
        b"{",
        b"",
        b"7",
        None,
    ],
    ids=str,
)
def test_a_foreign_record_is_named(foreign: bytes | None) -> None:
    decoder = FeatureDecoder("t", DEFINITION, EVENTS)
    batch = batch_of([changed(), foreign, changed()])
    with pytest.raises(StateError, match="offset 1 is no feature record"):
        decoder.decode(batch)


def test_an_unusual_but_valid_record_is_decoded_one_by_one() -> None:
    spaced = msgspec.json.format(changed(), indent=2)
    table = FeatureDecoder("t", DEFINITION, EVENTS).decode(batch_of([changed(), spaced]))
    assert table["f.level"].to_pylist() == [1.5, 1.5]
    assert np.isnan(table["f.twice"].to_numpy()).all()
    assert table["c.kind"].to_pylist() == ["k", "k"]
    assert table["g.site"].to_pylist() == ["s", "s"]


SEVERAL_KEYS = Definition(3, {"n": Count("30s", "5s", by="kind", on="labels", delay="5s")})
READ_UNTIL: dict[str, Any] = {
    "event_id": "e", "entity": "d", "event_time_ms": 5, "definition": 3,
    "source": {"partition": 1, "offset": 7}, "labels": 3, "origin": {"partition": 0, "offset": 2},
    "features": {"n": 1.0}, "groups": {},
}  # fmt: skip


def test_records_with_an_origin_and_a_label_offset_take_the_quick_way() -> None:
    batch = batch_of([msgspec.json.encode(READ_UNTIL)])
    quick = ArrowFeatureReader(SEVERAL_KEYS, EVENTS).read(batch)
    assert quick is not None
    decoder = FeatureDecoder("t", SEVERAL_KEYS, EVENTS)
    assert decoder.decode(batch)["source_offset"].to_pylist() == [7]


@pytest.mark.parametrize(
    "lacking",
    [
        {**READ_UNTIL, "origin": {"partition": 0}},
        {**READ_UNTIL, "labels": None},
        {key: value for key, value in READ_UNTIL.items() if key != "origin"},
    ],
    ids=str,
)
def test_a_record_without_its_origin_or_label_offset_is_foreign(lacking: dict[str, Any]) -> None:
    batch = batch_of([msgspec.json.encode(READ_UNTIL), msgspec.json.encode(lacking)])
    with pytest.raises(StateError, match="offset 1 is no feature record"):
        FeatureDecoder("t", SEVERAL_KEYS, EVENTS).decode(batch)
