"""Re-keyed events: exact bytes, whatever is in them, and the columns that the next stage gets."""

import math
from dataclasses import replace

import numpy as np
import pytest

from features.engine.engine import FeatureEngine
from features.processing.rekeyed import RekeyedCodec, RekeyedDecoder, at_origin, raw_events
from features.records import FeatureRows
from streams.batch import LogBatch
from streams.errors import StateError
from tests.features.shops import BOTH_KEYS, PAYMENTS, VERDICTS, payments

CODEC = RekeyedCodec(BOTH_KEYS, PAYMENTS, VERDICTS, 1)
EVENT = b'{"payment": "p1",  "card":"c","shop":"s","at":1700000000000,"amount":2.50}'


def rows(n: int) -> FeatureRows:
    return FeatureRows(
        partition=2,
        event_ids=["p1"] * n,
        entities=["c"] * n,
        event_times_ms=np.full(n, 1_700_000_000_000),
        source_offsets=40 + np.arange(n),
        numeric=np.array([[3.0, 0.1, math.nan]] * n),
        categories=[],
        groups=[],
    )


def batch_of(values: list[bytes | None]) -> LogBatch:
    n = len(values)
    offsets = np.arange(n, dtype=np.int64)
    return LogBatch("shops.shop.v1", 0, offsets, offsets, [b"s"] * n, values, n)


def test_the_event_stands_in_it_byte_for_byte() -> None:
    (value,) = CODEC.encode(rows(1), [EVENT])
    features = b'"features":{"count_5m":3.0,"sum_1h":0.1,"since":null}'
    assert value == (
        b'{"event":' + EVENT + b"," + features + b',"origin":{"partition":2,"offset":40}}'
    )
    assert raw_events([value], 1) == [EVENT]
    assert raw_events([EVENT], 0) == [EVENT]


def test_a_line_break_between_tokens_becomes_a_blank() -> None:
    broken = EVENT.replace(b",", b",\n")
    first, second = CODEC.encode(rows(2), [broken, EVENT])
    assert raw_events([first, second], 1) == [broken.replace(b"\n", b" "), EVENT]


def test_the_next_stage_gets_what_the_one_before_had() -> None:
    values: list[bytes | None] = [*CODEC.encode(rows(3), [EVENT] * 3)]
    columns, dead = RekeyedDecoder(BOTH_KEYS, PAYMENTS, VERDICTS, 1).decode(batch_of(values))
    assert dead == []
    assert columns.texts["shop"] == ["s"] * 3
    assert columns.entities == ["c"] * 3
    assert columns.earlier is not None
    assert np.array_equal(columns.earlier, rows(3).numeric, equal_nan=True)
    assert columns.origin_partitions is not None
    assert columns.origin_offsets is not None
    assert columns.origin_partitions.tolist() == [2, 2, 2]
    assert columns.origin_offsets.tolist() == [40, 41, 42]


def test_an_event_that_only_the_next_stage_can_not_use_is_a_dead_letter_of_the_events() -> None:
    bad = EVENT.replace(b"2.50", b"-1")  # as if an earlier stage had known a wider type
    values: list[bytes | None] = [*CODEC.encode(rows(2), [EVENT, bad])]
    batch = batch_of(values)
    columns, dead = RekeyedDecoder(BOTH_KEYS, PAYMENTS, VERDICTS, 1).decode(batch)
    assert columns.rows.tolist() == [0]
    (letter,) = at_origin(dead, batch, "shops.events.v1")
    assert (letter.topic, letter.partition, letter.offset) == ("shops.events.v1", 2, 41)
    assert letter.value == bad


@pytest.mark.parametrize(
    "foreign", [None, b"{", b"{}", EVENT, b'{"event":{},"features":{},"origin":{}}'], ids=str
)
def test_what_is_none_is_named(foreign: bytes | None) -> None:
    (value,) = CODEC.encode(rows(1), [EVENT])
    with pytest.raises(StateError, match=r"shops\.shop\.v1, partition 0, offset 1 is no re-keyed"):
        CODEC.decode(batch_of([value, foreign]))


def test_repeated_stretches_change_nothing() -> None:
    first = FeatureEngine(BOTH_KEYS, PAYMENTS, VERDICTS, 0)
    log = payments(0, 300, bad=False)
    n = np.arange(len(log), dtype=np.int64)
    events = LogBatch(
        "shops.events.v1", 1, n, n, [k for k, _, _ in log], [v for _, v, _ in log], len(log)
    )
    made = first.process(events)
    values: list[bytes | None] = [*CODEC.encode(made.rows, raw_events(events.values, 0))]
    decoder = RekeyedDecoder(BOTH_KEYS, PAYMENTS, VERDICTS, 1)

    def features(of: list[bytes | None]) -> FeatureRows:
        engine = FeatureEngine(BOTH_KEYS, PAYMENTS, VERDICTS, 1, decoder)
        return engine.process(batch_of(of)).rows

    once = features(values)
    again = features([*values[:200], *values[150:200], *values[150:]])
    assert again.event_ids == once.event_ids
    assert np.array_equal(again.numeric, once.numeric, equal_nan=True)
    assert replace(again, source_offsets=once.source_offsets).categories == once.categories
