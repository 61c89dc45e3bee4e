"""CSV and Parquet files as a sequence of Arrow tables, and their columns as plain values.

All cells of a CSV file are read as text, so that one bad cell does not spoil its column; what the
record's type wants is tried column by column, and cell by cell only where that fails.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from streams.errors import SourceError
from streams.files import PARQUET, has_suffix, not_utf8, open_binary, reading

Kind = Literal["int", "float", "bool", "text"]

_BLOCK_BYTES = 4 << 20
_PARQUET_ROWS = 1 << 16
_MISSING_CELLS = ["", "NaN", "nan", "null"]


def read_tables(
    path: Path, required: Sequence[str], optional: Sequence[str], torn: list[str]
) -> Iterator[pa.Table]:
    """Yield the file in pieces, with the columns ``required`` and those of ``optional`` it has.

    Lines of a CSV file with too many or too few cells are no rows: they are appended to ``torn``
    as they are, in the order of the file.

    Raises:
        SourceError: the file can't be read, has no rows, or lacks a required column.
    """
    rows = 0
    if has_suffix(path, PARQUET):
        tables = _parquet_tables(path, required, optional)
    else:
        tables = _csv_tables(path, required, optional, torn)
    for table in tables:
        rows += table.num_rows
        if table.num_rows:
            yield table
    if not rows and not torn:
        raise SourceError(f"{path} is empty: it has a header but no rows")


def column_names(path: Path) -> list[str]:
    """Return the names of a file's columns, in its order.

    Raises:
        SourceError: the file can't be read, or two columns have one name.
    """
    with open_binary(path) as file, reading(path):
        if has_suffix(path, PARQUET):
            names = list(pq.ParquetFile(file).schema_arrow.names)
        else:
            names = _csv_header(path, file.readline())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SourceError(f"{path} has several columns called {', '.join(map(repr, twice))}")
    return names


def times_ms(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return times in milliseconds since the epoch (n,) and which of them are valid (n,).

    Numbers are milliseconds; Arrow timestamps and ISO 8601 texts without a zone are UTC.
    """
    column = _plain(column)
    if pa.types.is_timestamp(column.type):
        column = pc.cast(column, pa.timestamp("ms"), safe=False)
    elif pa.types.is_date(column.type):
        column = pc.cast(column, pa.timestamp("ms"))
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = _parse_times(column)
    if pa.types.is_floating(column.type):
        numbers = column.to_numpy()
        valid = np.isfinite(numbers) & (np.abs(numbers) < 2.0**53)
        return np.where(valid, numbers, 0.0).astype(np.int64), valid
    try:
        integers = pc.cast(column, pa.int64())
    except pa.ArrowInvalid:
        return np.zeros(len(column), np.int64), np.zeros(len(column), np.bool_)
    valid = integers.is_valid().to_numpy(zero_copy_only=False).astype(np.bool_)
    return integers.fill_null(0).to_numpy(), valid


def plain_values(column: pa.ChunkedArray, kind: Kind) -> list[Any]:
    """Return n plain Python values of ``kind``, None where a cell is missing or unfit."""
    column = _plain(column)
    if kind == "text":
        return _with_missing(pc.cast(column, pa.string()), "")
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if kind == "bool":
        return _with_missing(_try_cast(column, pa.bool_()), False)
    if is_text:
        column = _parse_numbers(column, pa.int64() if kind == "int" else pa.float64())
    if pa.types.is_floating(column.type):
        if kind == "int":
            column = _try_cast(pc.if_else(pc.is_finite(column), column, None), pa.int64())
        else:
            column = pc.cast(column, pa.float64())
    return _with_missing(column, 0)


def _csv_tables(
    path: Path, required: Sequence[str], optional: Sequence[str], torn: list[str]
) -> Iterator[pa.Table]:
    with open_binary(path) as file:
        header = _csv_header(path, file.readline())
    columns = _choose(path, header, required, optional)

    def skip(row: pa_csv.InvalidRow) -> str:
        torn.append(row.text)
        return "skip"

    with open_binary(path) as file, reading(path):
        try:
            reader = pa_csv.open_csv(
                file,
                pa_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
                pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
                pa_csv.ConvertOptions(
                    include_columns=columns,
                    column_types={name: pa.string() for name in columns},
                    null_values=_MISSING_CELLS,
                    strings_can_be_null=True,
                ),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            raise
        for batch in reader:
            yield pa.Table.from_batches([batch])


def _csv_header(path: Path, line: bytes) -> list[str]:
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    return next(csv.reader([text.rstrip("\r\n")]), [])


def _parquet_tables(
    path: Path, required: Sequence[str], optional: Sequence[str]
) -> Iterator[pa.Table]:
    with open_binary(path) as file, reading(path):
        parquet = pq.ParquetFile(file)
        columns = _choose(path, parquet.schema_arrow.names, required, optional)
        for batch in parquet.iter_batches(_PARQUET_ROWS, columns=columns):
            yield pa.Table.from_batches([batch])


def _choose(
    path: Path, there: Sequence[str], required: Sequence[str], optional: Sequence[str]
) -> list[str]:
    missing = [name for name in required if name not in there]
    if missing:
        raise SourceError(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} "
            f"{', '.join(map(repr, missing))}; it has {', '.join(map(repr, there)) or 'none'}"
        )
    return [name for name in there if name in required or name in optional]


def _plain(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _with_missing(array: pa.Array, placeholder: Any) -> list[Any]:
    values: list[Any] = array.fill_null(placeholder).to_numpy(zero_copy_only=False).tolist()
    if array.null_count:
        for row in np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist():
            values[row] = None
    return values


def _try_cast(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """Cast the column; where a cell does not fit, cell by cell, the unfit ones null."""
    try:
        return pc.cast(array, type_)
    except pa.ArrowInvalid:
        return pa.array(
            [_cast_cell(array[row : row + 1], type_) for row in range(len(array))], type_
        )


def _cast_cell(cell: pa.Array, type_: pa.DataType) -> Any:
    try:
        return pc.cast(cell, type_)[0].as_py()
    except pa.ArrowInvalid:
        return None


def _parse_numbers(texts: pa.Array, type_: pa.DataType) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(texts)
    try:
        return pc.cast(trimmed, type_)
    except pa.ArrowInvalid:
        numbers = pd.to_numeric(pd.Series(trimmed.to_numpy(zero_copy_only=False)), errors="coerce")
        return pa.array(numbers.to_numpy(np.float64), from_pandas=True)


def _parse_times(texts: pa.Array) -> pa.Array:
    try:
        return pc.cast(texts, pa.int64())
    except pa.ArrowInvalid:
        series = pd.Series(texts.to_numpy(zero_copy_only=False))
        numbers = pd.to_numeric(series, errors="coerce").to_numpy(np.float64)
        parsed = pd.to_datetime(series, errors="coerce", utc=True, format="ISO8601")
        nanoseconds = parsed.to_numpy("datetime64[ms]")
        from_text = np.where(np.isnat(nanoseconds), np.nan, nanoseconds.astype(np.float64))
        return pa.array(np.where(np.isnan(numbers), from_text, numbers))
