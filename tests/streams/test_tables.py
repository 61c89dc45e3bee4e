"""Columns of CSV and Parquet files as plain values; what is unfit costs its cell only."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streams.errors import SourceError
from streams.tables import Kind, plain_values, read_tables, times_ms


def read(path: Path, *required: str) -> dict[str, list[Any]]:
    table = pa.concat_tables(read_tables(path, required, (), []))
    columns: dict[str, list[Any]] = table.to_pydict()
    return columns


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_cells_are_text_and_missing_ones_none(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", '\ufeffid,x,other\n007,,1\n"a\nb",NaN,2\nNA,"1,5",3\n')
    assert read(path, "id", "x") == {"id": ["007", "a\nb", "NA"], "x": [None, None, "1,5"]}


def test_optional_columns_come_where_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "b,a\n1,2\n")
    (table,) = read_tables(path, ["a"], ["b", "c"], [])
    assert table.column_names == ["b", "a"]


def test_lines_with_another_number_of_cells_are_kept_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a,b\n1,2\n3\n4,5\n6,7,8\n")
    torn: list[str] = []
    table = pa.concat_tables(read_tables(path, ["a"], (), torn))
    assert table["a"].to_pylist() == ["1", "4"]
    assert torn == ["3", "6,7,8"]


@pytest.mark.parametrize("data", ["a,b\n", "a,b"])
def test_a_header_only(tmp_path: Path, data: str) -> None:
    with pytest.raises(SourceError, match=r"a\.csv is empty: it has a header but no rows"):
        read(write(tmp_path / "a.csv", data), "a")


def test_an_empty_parquet_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=r"a\.parquet is empty"):
        read(tmp_path / "a.parquet", "a")


def test_a_missing_column_is_named_and_so_are_those_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,time\n1,2\n")
    with pytest.raises(SourceError, match="lacks the column 'station'; it has 'id', 'time'"):
        read(path, "id", "station")
    pq.write_table(pa.table({"id": [1]}), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="lacks the columns 'x', 'y'; it has 'id'"):
        read(tmp_path / "a.parquet", "x", "y")


@pytest.mark.parametrize("data", ["id,größe\n1,2\n".encode("latin1"), b"id,name\n1,M\xfcller\n"])
def test_another_encoding(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(SourceError, match=r"is not UTF-8 text: convert it, .*iconv -f latin1"):
        read(write(tmp_path / "a.csv", data), "id", "name")


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(SourceError, match=r"a\.parquet is damaged, or no Parquet file"):
        read(write(path, b"no such thing"), "a")
    pq.write_table(pa.table({"a": list(range(10_000))}), path)
    with pytest.raises(SourceError, match=r"a\.parquet"):
        read(write(path, path.read_bytes()[:5000]), "a")


@pytest.mark.parametrize(
    ("cells", "kind", "expected"),
    [
        (["1", None, " 2 "], "int", [1, None, 2]),
        (["1", "x", "9007199254740993"], "float", [1.0, None, 9007199254740992.0]),
        (["1", "2.0", "2.5", "x"], "int", [1, 2, None, None]),
        (["9007199254740993"], "int", [9007199254740993]),
        (["true", "0", "maybe", None], "bool", [True, False, None, None]),
        (["a", None, "ü"], "text", ["a", None, "ü"]),
        ([1, None, 3], "text", ["1", None, "3"]),
        ([1, None, 3], "int", [1, None, 3]),
        ([1, None, 3], "float", [1, None, 3]),
        ([1.0, float("nan"), 2.5], "int", [1, None, None]),
        ([True, None], "bool", [True, None]),
    ],
)
def test_plain_values(cells: list[Any], kind: Kind, expected: list[Any]) -> None:
    got = plain_values(pa.chunked_array([pa.array(cells)]), kind)
    assert got == expected
    assert [type(value) for value in got if value is not None and kind == "int"] == [
        int for value in got if value is not None and kind == "int"
    ]


def test_not_a_number_stays_for_the_encoder_to_null() -> None:
    assert np.isnan(plain_values(pa.chunked_array([pa.array([float("nan")])]), "float")[0])


def test_dictionary_columns() -> None:
    column = pa.chunked_array([pa.array(["a", None, "a"]).dictionary_encode()] * 2)
    assert plain_values(column, "text") == ["a", None, "a"] * 2


NOON = datetime(2020, 3, 8, 12, tzinfo=UTC)
NOON_MS = 1_583_668_800_000


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pa.array([NOON_MS, None]), [NOON_MS, None]),
        (pa.array([float(NOON_MS), float("nan"), 1e300]), [NOON_MS, None, None]),
        (pa.array([str(NOON_MS), None]), [NOON_MS, None]),
        (
            pa.array(["2020-03-08T12:00:00Z", "2020-03-08 12:00", "2020-03-08T08:00-04:00", "?"]),
            [NOON_MS, NOON_MS, NOON_MS, None],
        ),
        (pa.array([str(NOON_MS), "2020-03-08 12:00", "noon"]), [NOON_MS, NOON_MS, None]),
        (pa.array([NOON, None], pa.timestamp("ns", "America/New_York")), [NOON_MS, None]),
        (pa.array([NOON.replace(tzinfo=None)], pa.timestamp("us")), [NOON_MS]),
        (pa.array([date(2020, 3, 8)]), [NOON_MS - 12 * 3_600_000]),
        (pa.array([None, None]), [None, None]),
    ],
)
def test_times(cells: pa.Array, expected: list[int | None]) -> None:
    times, valid = times_ms(pa.chunked_array([cells]))
    assert [t if ok else None for t, ok in zip(times.tolist(), valid, strict=True)] == expected
