"""Record batches: what aiokafka's own reader makes of them, byte by byte of the format."""

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.byte_columns import ByteColumn
from streams.checksum import crc32c
from streams.record_batch import HEADER_BYTES, encode_batches

Record = tuple[bytes | None, bytes | None, int, list[tuple[str, bytes]]]

NULLABLE = st.none() | st.binary(max_size=300)


def read(payloads: list[bytes]) -> list[Record]:
    """Return the records as another implementation reads them; the checksums must be right."""
    records: list[Record] = []
    for payload in payloads:
        memory = MemoryRecords(payload)
        batch = memory.next_batch()
        assert batch is not None
        assert not memory.has_next()
        assert batch.validate_crc()
        for offset, record in enumerate(batch):
            assert record.offset == offset
            headers = [(name, value or b"") for name, value in record.headers]
            records.append((record.key, record.value, record.timestamp or 0, headers))
    return records


def one_by_one(records: list[Record], sequence: tuple[int, int, int]) -> bytes:
    """Return the batch that another implementation makes."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, *sequence, batch_size=1 << 30)
    for offset, (key, value, time_ms, headers) in enumerate(records):
        builder.append(offset, time_ms, key, value, list(headers))
    return bytes(builder.build())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            NULLABLE, NULLABLE, st.integers(0, 2**45), st.text(max_size=20),
            st.none() | st.binary(max_size=70),
        ),
        min_size=1, max_size=30,
    ),
    st.integers(0, 2**62), st.integers(0, 2**15 - 1), st.integers(0, 2**31 - 1),
)  # fmt: skip
def test_the_bytes_are_those_of_a_batch_made_record_by_record(
    rows: list[tuple[bytes | None, bytes | None, int, str, bytes | None]],
    producer_id: int, epoch: int, sequence: int,
) -> None:  # fmt: skip
    fixed = [("ce_type", b"test"), ("empty", b"")]
    records: list[Record] = [
        (key, value, at, [*fixed, ("ce_id", name.encode()), *([] if t is None else [("trace", t)])])
        for key, value, at, name, t in rows
    ]
    keys, values, times, names, traces = zip(*rows, strict=True)
    (batch,) = encode_batches(
        ByteColumn.of(keys), ByteColumn.of(values), np.array(times, dtype=np.int64), fixed,
        [("ce_id", ByteColumn.of_texts(names)), ("trace", ByteColumn.of(traces))],
    )  # fmt: skip
    made = batch.to_bytes(producer_id, epoch, sequence)
    # The other implementation leaves the leader's epoch at -1 too, which the broker fills in.
    assert made == one_by_one(records, (producer_id, epoch, sequence))
    assert (len(made), batch.count) == (batch.size, len(rows))
    assert read([made]) == records


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_batches_are_cut_at_their_size(compression: str | None) -> None:
    values = [bytes([i % 251]) * (i % 700) for i in range(2_000)]
    column = ByteColumn.of(values)
    times = np.arange(len(values), dtype=np.int64)
    batches = encode_batches(
        column, column, times, [("a", b"b")], compression=compression, max_bytes=20_000
    )
    payloads = [batch.to_bytes(-1, -1, -1) for batch in batches]
    assert [(key, value) for key, value, _, _ in read(payloads)] == list(
        zip(values, values, strict=True)
    )
    assert [at for _, _, at, _ in read(payloads)] == times.tolist()
    if compression is None:
        assert max(map(len, payloads)) <= 20_000
        assert min(map(len, payloads[:-1])) > 20_000 - 2 * 700 - 30  # another would not have fitted
    else:
        assert sum(map(len, payloads)) < sum(map(len, values)) / 10


def test_a_record_above_the_limit_has_a_batch_of_its_own() -> None:
    values = ByteColumn.of([b"a", b"b" * 5_000, b"c"])
    batches = encode_batches(ByteColumn.of([None] * 3), values, np.arange(3), max_bytes=1_000)
    assert [batch.count for batch in batches] == [1, 1, 1]
    assert batches[1].size > HEADER_BYTES + 5_000


def test_nothing_gives_no_batch() -> None:
    none = ByteColumn.of([])
    assert encode_batches(none, none, np.empty(0, dtype=np.int64), [], [("a", none)]) == []


def test_the_checksum_is_that_of_the_standard() -> None:
    # RFC 3720, appendix B.4
    assert crc32c(b"\x00" * 32) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"6789", crc32c(b"12345")) == crc32c(b"123456789") == 0xE3069283
