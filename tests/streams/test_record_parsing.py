"""Fetched batches, made by another implementation: whole, cut off, compacted, aborted, damaged."""

import struct
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.checksum import crc32c
from streams.errors import BrokerError
from streams.record_parsing import Fetched, FetchedRecords, OldFormatError

Header = tuple[str, bytes | None]
Record = tuple[int, int, bytes | None, bytes | None, list[Header]]  # offset, time, key, value

NULLABLE = st.none() | st.binary(max_size=300)
HEADERS = st.lists(
    st.tuples(st.sampled_from(["traceparent", "traceparens", "a", "", "é"]), NULLABLE), max_size=4
)
CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
LOG_APPEND_TIME, TRANSACTIONAL, CONTROL = 0x08, 0x10, 0x20
CRC_AT, ATTRIBUTES_AT, MAX_TIME_AT, COUNT_AT = 17, 21, 35, 57


def batch_of(
    records: Sequence[Record], codec: int = 0, attributes: int = 0, producer: int = -1,
    next_offset: int | None = None,
) -> bytes:  # fmt: skip
    """Return a batch as it stands in the log: with its offsets, gaps among them."""
    base = records[0][0]
    builder = DefaultRecordBatchBuilder(2, codec, 0, producer, 0, 0, batch_size=1 << 30)
    for offset, at, key, value, headers in records:
        builder.append(offset - base, at, key, value, list(headers))
    made = bytearray(builder.build())
    struct.pack_into(">q", made, 0, base)
    made[ATTRIBUTES_AT + 1] |= attributes
    if next_offset is not None:
        struct.pack_into(">i", made, ATTRIBUTES_AT + 2, next_offset - 1 - base)
    return sealed(made)


def sealed(made: bytearray) -> bytes:
    struct.pack_into(">I", made, CRC_AT, crc32c(bytes(made[ATTRIBUTES_AT:])))
    return bytes(made)


def taken(fetched: FetchedRecords, max_records: int = 1 << 30) -> list[Fetched]:
    """Return all stretches; they must follow each other without a gap."""
    stretches: list[Fetched] = []
    while not fetched.is_taken:
        start = fetched.position
        stretches.append(fetched.take(max_records))
        assert stretches[-1].start_offset == start
        assert stretches[-1].batch.next_offset == fetched.position >= start
        assert len(stretches[-1].batch) <= max_records
    assert fetched.position == max(fetched.end, stretches[0].start_offset if stretches else 0)
    return stretches


def columns(
    stretches: Sequence[Fetched],
) -> tuple[list[tuple[int, int, bytes | None, bytes | None]], dict[int, bytes]]:
    found: list[tuple[int, int, bytes | None, bytes | None]] = []
    traces: dict[int, bytes] = {}
    for stretch in stretches:
        b = stretch.batch
        found += zip(b.offsets.tolist(), b.timestamps_ms.tolist(), b.keys, b.values, strict=True)
        traces |= stretch.traceparents
    return found, traces


def plain(first: int, n: int) -> list[Record]:
    return [(i, 1_000 + i, b"k%d" % i, b"v" * (i % 50), []) for i in range(first, first + n)]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(0, 2**45), NULLABLE, NULLABLE, HEADERS),
        min_size=1, max_size=40,
    ),
    st.lists(st.integers(1, 39), max_size=3), st.sampled_from([0, *CODECS.values()]),
    st.integers(0, 2**40), st.integers(1, 45), st.integers(0, 20),
)  # fmt: skip
def test_all_parts_are_those_that_were_written(
    rows: list[tuple[int, int, bytes | None, bytes | None, list[Header]]],
    cuts: list[int], codec: int, base: int, max_records: int, skipped: int,
) -> None:  # fmt: skip
    offsets = (base + np.cumsum([gap for gap, *_ in rows])).tolist()
    records: list[Record] = [
        (o, t, k, v, h) for o, (_, t, k, v, h) in zip(offsets, rows, strict=True)
    ]
    bounds = sorted({0, len(records), *(cut for cut in cuts if cut < len(records))})
    data = b"".join(batch_of(records[a:b], codec) for a, b in pairwise(bounds))
    position = base + skipped
    found, traces = columns(taken(FetchedRecords("t", 3, data, position), max_records))
    wanted = [record for record in records if record[0] >= position]
    assert found == [record[:4] for record in wanted]
    assert traces == {
        offset: value
        for offset, *_, headers in wanted
        for name, value in headers
        if name == "traceparent" and value is not None
    }


@pytest.mark.parametrize("size", [0, 127, 128, 255, 256, 65_535, 65_536, 1_000_000])
def test_values_of_every_length(size: int) -> None:
    records: list[Record] = [(0, 5, b"k", bytes(range(256)) * (size // 256 + 1), [])]
    records = [(0, 5, b"k", (records[0][3] or b"")[:size], [])]
    found, _ = columns(taken(FetchedRecords("t", 0, batch_of(records), 0)))
    assert found == [records[0][:4]]


def test_the_topic_and_partition_are_named() -> None:
    (stretch,) = taken(FetchedRecords("topic", 7, batch_of(plain(0, 2)), 0))
    assert (stretch.batch.topic, stretch.batch.partition) == ("topic", 7)
    assert stretch.batch.offsets.dtype == stretch.batch.timestamps_ms.dtype == np.int64


@pytest.mark.parametrize("cut", [1, 12, 60, 61, 100])
def test_a_last_batch_that_is_cut_off_is_left_for_the_next_fetch(cut: int) -> None:
    data = batch_of(plain(0, 5)) + batch_of(plain(5, 9))[:cut]
    fetched = FetchedRecords("t", 0, data, 0)
    assert len(columns(taken(fetched))[0]) == fetched.end == 5


def test_nothing_fetched_moves_nothing() -> None:
    fetched = FetchedRecords("t", 0, b"", 42)
    assert fetched.is_taken
    assert fetched.position == fetched.end == 42


def test_the_place_of_what_was_compacted_away_is_passed() -> None:
    data = batch_of(plain(0, 1), next_offset=50) + batch_of(plain(70, 2), next_offset=100)
    stretches = taken(FetchedRecords("t", 0, data, 10))
    assert [offset for offset, *_ in columns(stretches)[0]] == [70, 71]
    assert stretches[-1].batch.next_offset == 100


def test_the_broker_s_time_takes_the_place_of_the_records() -> None:
    made = bytearray(batch_of(plain(0, 3), attributes=LOG_APPEND_TIME))
    struct.pack_into(">q", made, MAX_TIME_AT, 777)
    found, _ = columns(taken(FetchedRecords("t", 0, sealed(made), 0)))
    assert [at for _, at, *_ in found] == [777] * 3


def marker(offset: int, producer: int, commit: bool) -> bytes:
    record: Record = (offset, 0, struct.pack(">hh", 0, int(commit)), b"", [])
    return batch_of([record], 0, CONTROL | TRANSACTIONAL, producer)


def test_aborted_transactions_and_markers_are_passed() -> None:
    def of(producer: int, first: int) -> bytes:
        return batch_of(plain(first, 5), 0, TRANSACTIONAL, producer)

    data = b"".join(
        [
            of(1, 0), of(2, 5), batch_of(plain(10, 5)), marker(15, 1, True),  # 1 committed
            of(1, 16), marker(21, 2, False), of(2, 22), marker(27, 1, False),  # both aborted
            marker(28, 2, True), of(1, 29), marker(34, 1, True),
        ]
    )  # fmt: skip
    aborted = [(1, 16), (2, 5)]
    found, _ = columns(taken(FetchedRecords("t", 0, data, 0, aborted), 3))
    kept = [*range(5), *range(10, 15), *range(22, 27), *range(29, 34)]
    assert [offset for offset, *_ in found] == kept
    everything, _ = columns(taken(FetchedRecords("t", 0, data, 0)))
    assert len(everything) == 30


def test_a_response_without_records_moves_the_position() -> None:
    data = marker(3, 1, True) + marker(4, 2, False)
    (stretch,) = taken(FetchedRecords("t", 0, data, 3))
    assert (stretch.start_offset, len(stretch.batch), stretch.batch.next_offset) == (3, 0, 5)
    assert len(stretch.batch.offsets) == 0


@pytest.mark.parametrize("codec", [0, *CODECS.values()])
def test_a_damaged_batch_is_an_error(codec: int) -> None:
    good = batch_of(plain(0, 5))
    made = bytearray(batch_of(plain(5, 5), codec))
    made[-1] ^= 1
    fetched = FetchedRecords("t", 4, good + bytes(made), 0)
    fetched.take(5)
    with pytest.raises(BrokerError, match=r"t partition 4: .* offset 5 .* its checksum is wrong"):
        fetched.take(5)
    with pytest.raises(BrokerError, match="offset 5 is damaged"):
        taken(FetchedRecords("t", 4, sealed(made[:70] + b"\xff" * (len(made) - 70)), 0))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(61, 400), st.integers(0, 255)), min_size=1, max_size=6))
def test_no_bytes_lead_outside_the_batch(changes: list[tuple[int, int]]) -> None:
    made = bytearray(batch_of([(i, i, b"k" * i, b"v" * i, [("h", b"x")]) for i in range(20)]))
    for place, byte in changes:
        made[place % (len(made) - 61) + 61] = byte
    with suppress(BrokerError):
        for stretch in taken(FetchedRecords("t", 0, sealed(made), 0)):
            parts = [*stretch.batch.keys, *stretch.batch.values, *stretch.traceparents.values()]
            assert sum(len(part) for part in parts if part is not None) < len(made)


def test_an_unknown_compression_is_an_error() -> None:
    made = bytearray(batch_of(plain(0, 3)))
    made[ATTRIBUTES_AT + 1] |= 7
    with pytest.raises(BrokerError, match="no compression has the number 7"):
        taken(FetchedRecords("t", 0, sealed(made), 0))


@pytest.mark.parametrize("magic", [0, 1])
def test_older_formats_are_told(magic: int) -> None:
    builder = LegacyRecordBatchBuilder(magic, 0, 1 << 20)
    for i in range(3):
        builder.append(i, timestamp=1_000, key=b"k", value=b"v" * 40)
    with pytest.raises(OldFormatError):
        FetchedRecords("t", 0, bytes(builder.build()), 0)


@pytest.mark.parametrize("count", [4, 6])
def test_a_batch_of_more_or_fewer_records_than_it_says_is_damaged(count: int) -> None:
    made = bytearray(batch_of(plain(0, 5)))
    struct.pack_into(">i", made, COUNT_AT, count)
    with pytest.raises(BrokerError, match="do not have the lengths they say"):
        taken(FetchedRecords("t", 0, sealed(made), 0))
