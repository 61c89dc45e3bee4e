"""The record browser on records that mean no good, and where nothing is found."""

import json
import time
from uuid import uuid4

import msgspec
import pytest

from serving.dashboard.records import (
    LONGEST_S,
    SHOWN_BYTES,
    SHOWN_HEADERS,
    SHOWN_TEXT,
    Wanted,
    browse,
    shown,
)
from streams.kafka_client import producer
from streams.topics import TopicSpec, ensure_topics


@pytest.mark.parametrize("opened", ["[", '{"a":'], ids=["lists", "objects"])
@pytest.mark.parametrize("depth", [60, 900, 2_000])
def test_what_is_nested_too_deep_is_shown_as_text(opened: str, depth: int) -> None:
    closed = "]" if opened == "[" else "}"
    value = (opened * depth + "1" + closed * depth).encode()
    assert shown(value) == ("text", value.decode(), False)


def test_an_ordinary_nesting_is_shown_as_json() -> None:
    value = {"a": [{"b": [1, None, "x"]}]}
    assert shown(json.dumps(value).encode()) == ("json", value, False)


@pytest.mark.parametrize("value", [b"\xff\xfe\x00\x01", b"\x00" * 10, b"a\x1b[31m", b"\xc3"])
def test_bytes_that_are_no_text_are_shown_as_such(value: bytes) -> None:
    assert shown(value)[0] == "binary"


def test_a_character_that_the_cut_went_through_is_left_out() -> None:
    value = ("x" + "\u00e9" * SHOWN_BYTES).encode()
    assert shown(value) == ("text", "x" + "\u00e9" * (SHOWN_BYTES // 2 - 1), True)


@pytest.mark.broker
def test_huge_and_hostile_records_are_cut(bootstrap: str) -> None:
    topic = f"t{uuid4().hex[:8]}"
    ensure_topics(bootstrap, [TopicSpec(topic, 1)])
    client = producer(bootstrap, linger_ms=5)
    huge = b'{"a": "' + b"x" * 100_000 + b'"}'
    many = [(f"name-{i}", b"\xff" * 5_000) for i in range(3 * SHOWN_HEADERS)]
    client.produce(topic, huge, b"\x00\xff" * 5_000, 0, headers=[("n" * 5_000, b"v"), *many])
    client.produce(topic, b"[" * 8_000 + b"]" * 8_000, None, 0)
    client.produce(topic, b"\xff" * 100_000, None, 0)
    client.produce(topic, None, b"gone", 0)
    assert client.flush(30) == 0
    found = browse(bootstrap, Wanted(topic), 1)
    assert [record.format for record in found.records] == ["text", "text", "binary", "empty"]
    first = found.records[0]
    assert (first.size_bytes, first.cut, len(first.value)) == (len(huge), True, SHOWN_BYTES)
    assert len(first.headers) == SHOWN_HEADERS
    assert max(map(len, first.headers)) == SHOWN_TEXT
    assert len(msgspec.json.encode(found)) < 50 * SHOWN_BYTES


@pytest.mark.broker
def test_a_filter_that_matches_nothing_ends_and_says_where_it_stands(bootstrap: str) -> None:
    topic = f"t{uuid4().hex[:8]}"
    ensure_topics(bootstrap, [TopicSpec(topic, 2)])
    client = producer(bootstrap, linger_ms=5)
    for i in range(2_000):
        client.produce(topic, b'{"i": %d}' % i, None, i % 2)
    assert client.flush(30) == 0
    begun_s = time.monotonic()
    found = browse(bootstrap, Wanted(topic, text="nowhere"), 2)
    assert time.monotonic() - begun_s < LONGEST_S + 10
    assert (found.records, found.scanned, found.complete) == ([], 2_000, True)
    assert found.next == {"0": 1_000, "1": 1_000}


@pytest.mark.broker
def test_a_long_search_stops_at_its_limit_and_can_go_on(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = f"t{uuid4().hex[:8]}"
    ensure_topics(bootstrap, [TopicSpec(topic, 1)])
    client = producer(bootstrap, linger_ms=5)
    for i in range(2_000):
        client.produce(topic, b"last" if i == 1_999 else b"x", None, 0)
    assert client.flush(30) == 0
    monkeypatch.setattr("serving.dashboard.records.SCANNED", 500)
    offset, looks = 0, 0
    while True:
        found = browse(bootstrap, Wanted(topic, 0, offset, text="last"), 1)
        looks += 1
        if found.records:
            break
        assert not found.complete
        assert found.next["0"] > offset
        offset = found.next["0"]
    assert found.records[0].offset == 1_999
    assert looks > 1
