"""Rows as JSON."""

import json
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.encoding import encode_rows

CELLS = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text())


@given(st.lists(st.tuples(CELLS, CELLS), max_size=20))
def test_rows_are_the_json_objects_of_their_cells(rows: list[tuple[object, object]]) -> None:
    columns = [[row[0] for row in rows], [row[1] for row in rows]]
    encoded = encode_rows(["a b", "c"], columns)
    assert [json.loads(row) for row in encoded] == [{"a b": a, "c": c} for a, c in rows]


def test_what_is_no_number_becomes_null() -> None:
    rows = encode_rows(["x"], [[1.5, float("nan"), float("inf"), None]])
    assert rows == [b'{"x":1.5}', b'{"x":null}', b'{"x":null}', b'{"x":null}']


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 names for 1 columns"):
        encode_rows(["a", "b"], [[1]])


def test_it_is_fast() -> None:
    """300,000 rows/s are promised; asked for here is a third, since the machine is shared."""
    count = 100_000
    ids: list[object] = [f"29535-{row}" for row in range(count)]
    columns: list[list[object]] = [ids, ["3186"] * count, list(range(count))]
    started_s = time.process_time()
    rows = encode_rows(["trip_id", "station", "started_at_ms"], columns)
    assert time.process_time() - started_s < 1.0
    assert msgspec.json.decode(rows[-1])["started_at_ms"] == count - 1
