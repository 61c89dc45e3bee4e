"""Feature records: rows ↔ JSON, exactly and in one way only."""

import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.aggregations import Count
from features.definition import Category, Definition, Number
from features.records import FeatureCodec, FeatureRows
from streams.batch import LogBatch
from streams.errors import StateError
from streams.expressions import Value
from tests.features.rides import RIDES, START_MS

DEFINITION = Definition(
    4,
    {"class": Category("zone"), "n": Count("30s", "5s"), "__price": Number(Value("price"))},
    groups=("member", "bike"),
)
CODEC = FeatureCodec(DEFINITION, RIDES)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def rows_of(records: list[tuple[str, str, int, int, float, float, str, str, str]]) -> FeatureRows:
    columns: list[list[Any]] = [list(c) for c in zip(*records, strict=True)] or [[]] * 9
    ids, entities, times, offsets, counts, prices, zones, members, bikes = columns
    return FeatureRows(
        partition=2,
        event_ids=ids,
        entities=entities,
        event_times_ms=np.array(times, dtype=np.int64),
        source_offsets=np.array(offsets, dtype=np.int64),
        numeric=np.array([counts, prices], dtype=np.float64).T.reshape(-1, 2),
        categories=[zones],
        groups=[members, bikes],
    )


def batch_of(values: list[bytes | None], partition: int = 2) -> LogBatch:
    n = len(values)
    zeros = np.zeros(n, dtype=np.int64)
    offsets = 10 + np.arange(n, dtype=np.int64)
    return LogBatch("rides.features.v4", partition, offsets, zeros, [None] * n, values, 10 + n)


def same(one: FeatureRows, other: FeatureRows) -> bool:
    return (
        one.partition == other.partition
        and one.event_ids == other.event_ids
        and one.entities == other.entities
        and one.event_times_ms.tolist() == other.event_times_ms.tolist()
        and one.source_offsets.tolist() == other.source_offsets.tolist()
        and one.numeric.shape == other.numeric.shape
        and np.array_equal(one.numeric, other.numeric, equal_nan=True)
        and one.categories == other.categories
        and one.groups == other.groups
        and all(
            np.array_equal(getattr(one, name), getattr(other, name))
            for name in ("label_offsets", "origin_partitions", "origin_offsets")
        )
    )


ONE = rows_of([("r1", "ann", START_MS, 7, 3.0, math.nan, "", "true", "7")])
ONE_AS_JSON = (
    b'{"event_id":"r1","entity":"ann","event_time_ms":1583625600000,"definition":4,'
    b'"source":{"partition":2,"offset":7},'
    b'"features":{"class":"","n":3.0,"__price":null},"groups":{"member":"true","bike":"7"}}'
)


def test_the_bytes_of_a_record() -> None:
    assert CODEC.encode(ONE) == [ONE_AS_JSON]


@given(
    st.lists(
        st.tuples(
            TEXTS,
            TEXTS,
            st.integers(-(2**63), 2**63 - 1),
            st.integers(0, 2**63 - 1),
            st.floats(allow_infinity=False),
            st.floats(allow_infinity=False),
            TEXTS,
            TEXTS,
            TEXTS,
        )
    )
)
def test_what_is_encoded_is_decoded_as_it_was(
    records: list[tuple[str, str, int, int, float, float, str, str, str]],
) -> None:
    rows = rows_of(records)
    values: list[bytes | None] = [*CODEC.encode(rows)]
    assert len(values) == len(records)
    decoded = CODEC.decode(batch_of(values))
    assert same(decoded, rows)
    assert CODEC.encode(decoded) == values


def test_keys_stand_in_the_documented_order() -> None:
    (value,) = CODEC.encode(ONE)
    record = msgspec.json.decode(value)
    assert list(record) == [
        "event_id",
        "entity",
        "event_time_ms",
        "definition",
        "source",
        "features",
        "groups",
    ]
    assert list(record["features"]) == list(DEFINITION.features)


def test_no_groups_no_features_of_a_kind() -> None:
    codec = FeatureCodec(Definition(1, {"n": Count("30s", "5s")}), RIDES)
    rows = FeatureRows(2, ["a"], ["b"], np.array([1]), np.array([2]), np.array([[4.0]]), [], [])
    values: list[bytes | None] = [*codec.encode(rows)]
    assert values[0] is not None
    assert values[0].endswith(b'"features":{"n":4.0},"groups":{}}')
    assert same(codec.decode(batch_of(values)), rows)


SEVERAL_KEYS = Definition(
    4,
    {
        "n": Count("30s", "5s", by="stops"),
        "bad": Count("30s", "5s", by="stops", on="labels", delay="5s"),
    },
)
OF_TWO_LOGS = replace(
    ONE,
    numeric=np.array([[3.0, math.nan]]),
    categories=[],
    groups=[],
    label_offsets=np.array([12]),
    origin_partitions=np.array([1]),
    origin_offsets=np.array([44]),
)


def test_records_say_which_labels_were_read_and_where_the_event_stands() -> None:
    codec = FeatureCodec(SEVERAL_KEYS, RIDES)
    values: list[bytes | None] = [*codec.encode(OF_TWO_LOGS)]
    assert values == [
        b'{"event_id":"r1","entity":"ann","event_time_ms":1583625600000,"definition":4,'
        b'"source":{"partition":2,"offset":7},"labels":12,"origin":{"partition":1,"offset":44},'
        b'"features":{"n":3.0,"bad":null},"groups":{}}'
    ]
    decoded = codec.decode(batch_of(values))
    assert same(decoded, OF_TWO_LOGS)
    assert codec.encode(decoded) == values
    with pytest.raises(TypeError, match="label offsets"):
        codec.encode(replace(OF_TWO_LOGS, label_offsets=None))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "bytes"),
        (b"{", "truncated"),
        (ONE_AS_JSON.replace(b'"n":3.0,', b""), "missing required field"),
        (ONE_AS_JSON.replace(b'"n":3.0', b'"m":3.0'), "unknown field"),
        (ONE_AS_JSON.replace(b"3.0", b'"3"'), r"\$.features.n"),
        (ONE_AS_JSON.replace(b'"class":""', b'"class":null'), r"\$.features.class"),
        (ONE_AS_JSON.replace(b'"definition":4', b'"definition":3'), "definition v3"),
        (ONE_AS_JSON.replace(b'"partition":2', b'"partition":1'), "partition 1"),
        (ONE_AS_JSON.replace(b'"offset":7', b'"offset":1' + b"0" * 20), r"\$.source.offset"),
    ],
)
def test_a_foreign_record_is_named(value: bytes | None, why: str) -> None:
    with pytest.raises(StateError, match=rf"rides\.features\.v4, partition 2, offset 11 .*{why}"):
        CODEC.decode(batch_of([ONE_AS_JSON, value]))
