"""The output of a batch prediction: CSV, JSON lines or Parquet by its suffix, whole or not at all.

Columns of the input that are called as those of the answer are replaced by them.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serving.batch.parts import Told
from streams.errors import SourceError
from streams.files import JSON_LINES, PARQUET, has_suffix

TABLES = (".csv", ".csv.gz")
WRITTEN = (*TABLES, *JSON_LINES, *PARQUET)

Added = Mapping[str, NDArray[Any] | Sequence[Any]]
"""Name → n values: the answers to n rows."""

_encode = msgspec.json.Encoder(enc_hook=str).encode


class Output:
    """A file in the making, beside its place until all is written.

    Raises:
        SourceError: by its suffix it is of no format that is known, or can't be written.
    """

    def __init__(self, path: Path) -> None:
        if not has_suffix(path, WRITTEN):
            raise SourceError(
                f"{path} can't be written: by its name it is none of {', '.join(WRITTEN)}"
            )
        self.path = path
        self._temporary = path.with_name(f".{os.getpid()}.{path.name}")
        self._lines: IO[bytes] | None = None
        self._table: _TableFile | None = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Put the file in its place, or away where something was raised."""
        for each in (self._lines, self._table):
            if each is not None:
                each.close()
        if kind is None and self._temporary.exists():
            self._temporary.replace(self.path)
        self._temporary.unlink(missing_ok=True)

    def write(self, told: Told, added: Added) -> None:
        """Append n rows, with their answers behind them."""
        try:
            if has_suffix(self.path, (*JSON_LINES,)):
                self._write_lines(told, added)
            else:
                self._write_table(told, added)
        except OSError as error:
            raise SourceError(f"{self.path} can't be written: {error}") from error

    def _write_lines(self, told: Told, added: Added) -> None:
        if self._lines is None:
            self._lines = _opened(self._temporary, has_suffix(self.path, (".gz",)))
        rows = told if isinstance(told, list) else told.to_pylist()
        columns = [np.asarray(values).tolist() for values in added.values()]
        for row, values in zip(rows, zip(*columns, strict=True), strict=True):
            plain = {name: value for name, value in row.items() if name not in added}
            plain.update(zip(added, values, strict=True))
            self._lines.write(_encode(plain) + b"\n")

    def _write_table(self, told: Told, added: Added) -> None:
        if isinstance(told, list) and not told and self._table is None:
            return  # nothing says yet which columns there are
        if self._table is None:
            self._table = _TableFile(self.path, self._temporary)
        self._table.write(told, added)


class _TableFile:
    """A CSV or Parquet file; its columns are those of the first rows."""

    def __init__(self, path: Path, temporary: Path) -> None:
        self._path, self._temporary = path, temporary
        self._told: pa.Schema | None = None
        self._writer: Any = None
        self._file: IO[bytes] | None = None

    def write(self, told: Told, added: Added) -> None:
        table = self._as_table(told)
        table = table.drop_columns([name for name in table.column_names if name in added])
        for name, values in added.items():
            table = table.append_column(name, pa.array(np.asarray(values)))
        if self._writer is None:
            self._open(table.schema)
        try:
            self._writer.write_table(table)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise SourceError(
                f"{self._path} can't hold the rows ({error}): write JSON lines"
            ) from error

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._file is not None:
            self._file.close()

    def _open(self, schema: pa.Schema) -> None:
        if has_suffix(self._path, PARQUET):
            self._writer = pq.ParquetWriter(self._temporary, schema)
            return
        self._file = _opened(self._temporary, has_suffix(self._path, (".gz",)))
        self._writer = pa_csv.CSVWriter(
            self._file, schema, write_options=pa_csv.WriteOptions(quoting_style="needed")
        )

    def _as_table(self, told: Told) -> pa.Table:
        if not isinstance(told, list):
            return told
        names = list(dict.fromkeys(name for row in told for name in row))
        if self._told is None:
            arrays = [_column([row.get(name) for row in told]) for name in names]
            table = pa.table(dict(zip(names, arrays, strict=True)))
            self._told = table.schema
            return table
        unknown = [name for name in names if name not in self._told.names]
        if unknown:
            raise SourceError(
                f"{self._path} has the columns of the first rows, and later ones have "
                f"{', '.join(map(repr, unknown))} too: write JSON lines, whose rows may differ"
            )
        arrays = [
            _column([row.get(field.name) for row in told], field.type) for field in self._told
        ]
        return pa.table(arrays, schema=self._told)


def _column(values: list[Any], type_: pa.DataType | None = None) -> pa.Array:
    """Return values as a column; as JSON texts where they are of several types."""
    try:
        if type_ != pa.string():
            made = pa.array(values, type_)
            return made if made.type != pa.null() else made.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        if type_ is not None:
            raise SourceError(
                f"a column that was {type_} in the first rows holds something else later "
                f"({error}): write JSON lines, whose rows may differ"
            ) from error
    texts = [v if v is None or isinstance(v, str) else _encode(v).decode() for v in values]
    return pa.array(texts, pa.string())


def _opened(path: Path, packed: bool) -> IO[bytes]:
    if not packed:
        return path.open("wb")
    # Without a name and a time the same rows give the same bytes.
    return _Packed(path)  # type: ignore[return-value]


class _Packed(gzip.GzipFile):
    def __init__(self, path: Path) -> None:
        self._raw = path.open("wb")
        super().__init__(filename="", mode="wb", fileobj=self._raw, mtime=0)

    def close(self) -> None:
        super().close()
        self._raw.close()
