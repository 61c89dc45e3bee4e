"""One order out of several streams."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import SourceError
from streams.merging import ascending, first_records, in_order, merge
from streams.recording import Recording

Row = tuple[int, bool, bytes]
Streams = list[list[list[Row]]]


def recording(rows: list[Row]) -> Recording:
    return Recording(
        np.asarray([time for time, _, _ in rows], np.int64),
        np.asarray([label for _, label, _ in rows], np.bool_),
        [b"k" + value for _, _, value in rows],
        [value for _, _, value in rows],
    )


def rows_of(recordings: Iterator[Recording]) -> list[Row]:
    rows: list[Row] = []
    for part in recordings:
        assert part.keys == [b"k" + value for value in part.values]
        rows += zip(part.timestamps_ms.tolist(), part.is_label.tolist(), part.values, strict=True)
    return rows


@st.composite
def streams(draw: st.DrawFn) -> Streams:
    """Streams that ascend, each cut into recordings anywhere, empty ones among them."""
    made = []
    for number in range(draw(st.integers(0, 4))):
        cells = draw(st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=12))
        rows = [
            (time, label, f"{number}/{row}".encode())
            for row, (time, label) in enumerate(sorted(cells, key=lambda cell: cell[0]))
        ]
        cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=4)))
        edges = [0, *cuts, len(rows)]
        made.append([rows[a:b] for a, b in pairwise(edges)])
    return made


@given(streams())
def test_order_is_by_time_then_labels_first_then_stream_and_row(parts: Streams) -> None:
    everything = [row for stream in parts for part in stream for row in part]
    merged = rows_of(merge([map(recording, stream) for stream in parts]))
    # sorted() is stable: `everything` lists stream after stream, row after row
    assert merged == sorted(everything, key=lambda row: (row[0], not row[1]))


@given(streams())
def test_each_part_begins_where_the_last_one_ended_or_later(parts: Streams) -> None:
    assert list(ascending(merge([map(recording, stream) for stream in parts]))) is not None


def test_labels_after_the_last_event_still_come() -> None:
    events = [recording([(1, False, b"e1"), (2, False, b"e2")])]
    labels = [recording([(2, True, b"l1")]), recording([(50, True, b"l2"), (90, True, b"l3")])]
    merged = rows_of(merge([events, labels]))
    assert [value for _, _, value in merged] == [b"e1", b"l1", b"e2", b"l2", b"l3"]


def test_only_one_recording_of_each_stream_is_read_ahead() -> None:
    read = 0

    def stream() -> Iterator[Recording]:
        nonlocal read
        for start in range(0, 1000, 10):
            read += 1
            yield recording([(start + i, False, b"") for i in range(10)])

    merged = merge([stream(), stream()])
    next(merged)
    assert read <= 4


@pytest.mark.parametrize("parts", [[[5, 4]], [[5], [4]], [[1], [7], [6]]])
def test_a_step_back_is_an_error(parts: list[list[int]]) -> None:
    stream = [recording([(time, False, b"") for time in times]) for times in parts]
    with pytest.raises(SourceError, match="back in time"):
        list(merge([stream]))


def test_in_order_leaves_what_is_in_order_as_it_is() -> None:
    sorted_one = recording([(1, True, b"a"), (1, False, b"b"), (2, True, b"c")])
    assert in_order(sorted_one) is sorted_one
    assert in_order(recording([(1, False, b"b"), (1, True, b"a")])).values == [b"a", b"b"]


@pytest.mark.parametrize(("limit", "left"), [(0, 0), (3, 3), (4, 4), (99, 6)])
def test_first_records_cuts(limit: int, left: int) -> None:
    parts = [recording([(t, False, b"%d" % t) for t in range(s, s + 3)]) for s in (0, 3)]
    assert [v for _, _, v in rows_of(first_records(parts, limit))] == [
        b"%d" % t for t in range(left)
    ]
