"""What stands in the topics once the emitter's future is set."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from confluent_kafka import TopicPartition

from features.engine.engine import FeatureEngine, Processed
from features.processing import emission
from features.processing.emission import FeatureEmitter
from features.records import FeatureCodec
from streams.batch import LogBatch
from streams.byte_columns import ByteColumn
from streams.clock import ManualClock
from streams.errors import BrokerError
from streams.kafka_client import consumer
from streams.record_batch import RecordBatch, encode_batches
from streams.replay import offset_bounds
from streams.topics import Topics, TopicSpec, dead_letter_topic, ensure_topics
from tests.features.payments import DEFINITION, PARTITIONS, PAYMENTS, payments, prepared

pytestmark = pytest.mark.broker

NOW_MS = 1_800_000_000_123
CODEC = FeatureCodec(DEFINITION, PAYMENTS)

Record = tuple[bytes | None, bytes | None, int, list[tuple[str, bytes]]]


def processed(topics: Topics, partition: int, first: int, n: int, bad: bool = True) -> Processed:
    records = payments(first, n, bad=bad)
    batch = LogBatch(
        topics.events,
        partition,
        np.arange(first, first + n),
        np.arange(first, first + n) + 1_000,
        [key for key, _ in records],
        [value for _, value in records],
        first + n,
    )
    return FeatureEngine(DEFINITION, PAYMENTS).process(batch)


def emit(
    bootstrap: str, topics: Topics, batches: Sequence[tuple[Processed, Mapping[int, bytes]]]
) -> list[BaseException | None]:
    """Return what the futures bring."""

    async def run() -> list[BaseException | None]:
        emitter = FeatureEmitter(bootstrap, topics, CODEC, ManualClock(NOW_MS))
        try:
            futures = [emitter.emit(batch, traces) for batch, traces in batches]
            return await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 20)
        finally:
            emitter.close()

    return asyncio.run(run())


def records_of(bootstrap: str, topic: str, partition: int) -> list[Record]:
    end = offset_bounds(bootstrap, topic, partition + 1)[partition][1]
    found: list[Record] = []
    with closing(consumer(bootstrap)) as client:
        client.assign([TopicPartition(topic, partition, 0)])
        while len(found) < end:
            for m in client.consume(end, 1.0):
                if m.error() is None:
                    headers: Any = m.headers() or []
                    found.append((m.key(), m.value(), m.timestamp()[1], headers))
    return found


def test_rows_stand_under_their_key_time_and_headers(bootstrap: str) -> None:
    topics = prepared(bootstrap, f"emit{uuid4().hex[:8]}")
    batches = [processed(topics, 2, first, 300) for first in (0, 300)]
    traces: list[Mapping[int, bytes]] = [{}, {302: b"00-abc", 305: b"00-def"}]
    assert emit(bootstrap, topics, list(zip(batches, traces, strict=True))) == [None, None]
    wanted: list[Record] = []
    for batch, trace in zip(batches, traces, strict=True):
        rows = batch.rows
        for i, value in enumerate(CODEC.encode(rows)):
            offset = int(rows.source_offsets[i])
            headers = [
                ("ce_specversion", b"1.0"),
                ("ce_type", f"{topics.name}.features".encode()),
                ("ce_source", b"kappa/features/1"),
                ("content-type", b"application/json"),
                ("kappa-featurised-at-ms", str(NOW_MS).encode()),
                ("ce_id", rows.event_ids[i].encode()),
            ]
            if offset in trace:
                headers.append(("traceparent", trace[offset]))
            wanted.append((batch.keys[i], value, int(rows.event_times_ms[i]), headers))
    assert records_of(bootstrap, topics.features, 2) == wanted
    letters = [letter for batch in batches for letter in batch.dead]
    assert len(letters) == 18
    assert records_of(bootstrap, dead_letter_topic(topics.events), 0) == [
        (letter.key, letter.value, letter.timestamp_ms, letter.to_record()[2]) for letter in letters
    ]


def test_what_brings_no_record_is_acknowledged(bootstrap: str) -> None:
    topics = prepared(bootstrap, f"emit{uuid4().hex[:8]}")
    nothing = processed(topics, 0, 0, 0)
    assert emit(bootstrap, topics, [(nothing, {}), (nothing, {})]) == [None, None]
    assert offset_bounds(bootstrap, topics.features, 1) == {0: (0, 0)}


def test_a_refused_row_fails_its_batch_and_all_that_follow(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = prepared(bootstrap, f"emit{uuid4().hex[:8]}")
    calls = 0

    def second_too_large(*columns: Any, **options: Any) -> list[RecordBatch]:
        nonlocal calls
        calls += 1
        if calls == 2:
            large = ByteColumn.of([b"x" * (2 << 20)])
            return encode_batches(large, large, np.array([1]))
        return encode_batches(*columns, **options)

    monkeypatch.setattr(emission, "encode_batches", second_too_large)
    batches = [processed(topics, 1, 50 * i, 50, bad=False) for i in range(3)]
    first, second, third = emit(bootstrap, topics, [(batch, {}) for batch in batches])
    assert first is None
    assert isinstance(second, BrokerError)
    assert isinstance(third, BrokerError)
    assert offset_bounds(bootstrap, topics.features, 2)[1] == (0, 50)


def test_a_batch_is_not_done_while_one_of_its_topics_has_not_taken_it(bootstrap: str) -> None:
    topics = Topics(f"emit{uuid4().hex[:8]}")
    ensure_topics(bootstrap, [TopicSpec(topics.features, PARTITIONS)])  # none for dead letters
    mixed = processed(topics, 0, 0, 300)
    assert len(mixed.rows)
    assert mixed.dead

    async def run() -> BaseException | None:
        emitter = FeatureEmitter(bootstrap, topics, CODEC, ManualClock(NOW_MS))
        future = emitter.emit(mixed, {})
        try:
            while offset_bounds(bootstrap, topics.features, PARTITIONS)[0][1] < len(mixed.rows):
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.5)  # what had been acknowledged would be told by now
            assert not future.done()
        finally:
            emitter.close()
        (outcome,) = await asyncio.gather(future, return_exceptions=True)
        return outcome

    assert isinstance(asyncio.run(asyncio.wait_for(run(), 60)), BrokerError)
