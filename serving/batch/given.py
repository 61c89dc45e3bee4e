"""Files whose columns are the features themselves; a row that is none costs only itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serving.batch.parts import Part, Parts, Refused, Told, Values
from streams.errors import SourceError
from streams.files import CSV, JSON_LINES, PARQUET, find_files, has_suffix, open_binary, reading
from streams.tables import column_names, read_tables

_BLOCK_BYTES = 4 << 20
_SHOWN = 2000  # characters of a refused record that are kept


@dataclass(frozen=True)
class Names:
    """The features that a model reads, in its order."""

    numeric: Sequence[str]
    categories: Sequence[str]


def parts_of_file(path: Path, names: Names) -> Parts:
    """Yield the rows of a CSV, JSON-lines or Parquet file.

    A numeric feature is a number, or a text that is one; nothing, null and NaN are missing. A
    category is a text or a whole number. All columns of the file are told again.

    Raises:
        SourceError: the file can't be read, has no rows, or lacks the column of a feature.
    """
    found = find_files(path, (*CSV, *JSON_LINES, *PARQUET))
    if found != [path]:
        raise SourceError(f"{path} is a folder: name one file")
    if has_suffix(path, JSON_LINES):
        return _of_lines(path, names)
    return _of_table(path, names)


def _of_table(path: Path, names: Names) -> Parts:
    torn: list[str] = []
    begun = 0
    for table in read_tables(path, [*names.numeric, *names.categories], column_names(path), torn):
        yield _part(table, begun + 1 + np.arange(table.num_rows), names, _torn(torn))
        begun += table.num_rows
        torn.clear()
    if torn:
        yield Part([], _none(names), _torn(torn))


def _torn(lines: Sequence[str]) -> list[Refused]:
    why = "the line has another number of cells than the header"
    return [Refused(None, why, line[:_SHOWN]) for line in lines]


def _of_lines(path: Path, names: Names) -> Parts:
    wanted = (*names.numeric, *names.categories)
    seen: set[str] = set()
    begun, objects = 0, 0
    with open_binary(path) as file, reading(path):
        while block := file.readlines(_BLOCK_BYTES):
            rows, numbers, refused = _objects(block, begun, wanted)
            begun += len(block)
            for row in rows:
                seen.update(row)
            if not objects:
                _check(path, seen, wanted, rows or [row for row, _ in _incomplete(block)])
            objects += len(rows)
            part = _part(rows, np.array(numbers, np.int64), names, refused)
            if rows or refused:
                yield part
    if not begun:
        raise SourceError(f"{path} is empty: it has no lines")


def _objects(
    block: Sequence[bytes], begun: int, wanted: Sequence[str]
) -> tuple[list[dict[str, Any]], list[int], list[Refused]]:
    """Return the lines that are objects with all that is wanted, their numbers, and the others."""
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    refused: list[Refused] = []
    for number, line in enumerate(block, start=begun + 1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            why = f"the line is no JSON object: {error}"
            refused.append(Refused(number, why, line.decode(errors="replace").strip()[:_SHOWN]))
            continue
        missing = [name for name in wanted if name not in row]
        if missing:
            why = f"it lacks {', '.join(map(repr, missing))}: give null for what is missing"
            refused.append(Refused(number, why, line.decode(errors="replace").strip()[:_SHOWN]))
        else:
            rows.append(row)
            numbers.append(number)
    return rows, numbers, refused


def _incomplete(block: Sequence[bytes]) -> Iterator[tuple[dict[str, Any], bytes]]:
    for line in block:
        try:
            yield msgspec.json.decode(line, type=dict[str, Any]), line
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue


def _check(
    path: Path, seen: set[str], wanted: Sequence[str], rows: Sequence[dict[str, Any]]
) -> None:
    """Raise SourceError where no row of the first block has all that is wanted."""
    names = seen.union(*rows)
    missing = [name for name in wanted if name not in names]
    if not rows:
        raise SourceError(f"{path} holds no JSON objects, one on each line")
    if missing:
        raise SourceError(
            f"{path} lacks the feature{'s' if len(missing) > 1 else ''} "
            f"{', '.join(map(repr, missing))}; its first lines have "
            f"{', '.join(map(repr, sorted(names)))}"
        )


def _part(told: Told, numbers: NDArray[np.int64], names: Names, refused: list[Refused]) -> Part:
    """Return the rows whose features can be read; ``refused`` are those that were no rows."""
    n = len(numbers)
    reasons: dict[int, list[str]] = {}
    numeric = np.empty((n, len(names.numeric)), np.float64)
    for i, name in enumerate(names.numeric):
        numeric[:, i], bad = _numbers(_column(told, name))
        for row, why in bad.items():
            reasons.setdefault(row, []).append(f"{name}: {why}")
    categories: list[list[str]] = []
    for name in names.categories:
        texts, bad = _texts(_column(told, name))
        categories.append(texts)
        for row, why in bad.items():
            reasons.setdefault(row, []).append(f"{name}: {why}")
    if not reasons:
        return Part(told, Values(numeric, categories), refused)
    good = np.array([row not in reasons for row in range(n)])
    places = np.flatnonzero(good).tolist()
    others = [
        Refused(int(numbers[row]), "; ".join(reasons[row]), _shown(told, row))
        for row in sorted(reasons)
    ]
    values = Values(numeric[good], [[texts[i] for i in places] for texts in categories])
    return Part(_some(told, places), values, [*refused, *others])


def _none(names: Names) -> Values:
    return Values(np.empty((0, len(names.numeric))), [[] for _ in names.categories])


def _numbers(cells: list[Any]) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Return numbers (n,), NaN where missing, and why rows have none."""
    kinds = set(map(type, cells))
    if kinds <= {float, int, type(None)}:
        try:
            numbers = np.array(cells, np.float64)
        except OverflowError:  # an integer beyond all floats
            return _numbers_one_by_one(cells)
    elif kinds <= {str, type(None)}:
        try:
            numbers = np.array(["nan" if cell is None else cell for cell in cells], np.float64)
        except ValueError:
            return _numbers_one_by_one(cells)
    else:
        return _numbers_one_by_one(cells)
    endless = np.flatnonzero(np.isinf(numbers)).tolist()
    return numbers, {row: f"{cells[row]!r} is no finite number" for row in endless}


def _numbers_one_by_one(cells: list[Any]) -> tuple[NDArray[np.float64], dict[int, str]]:
    numbers, bad = np.full(len(cells), np.nan), {}
    for row, cell in enumerate(cells):
        text = cell.strip() if isinstance(cell, str) else cell
        if text is None or text == "":
            continue
        try:
            if isinstance(cell, bool | bytes):
                raise TypeError
            numbers[row] = float(text)
        except (TypeError, ValueError, OverflowError):
            bad[row] = f"{cell!r} is no number"
            continue
        if np.isinf(numbers[row]):
            bad[row] = f"{cell!r} is no finite number"
    return numbers, bad


def _texts(cells: list[Any]) -> tuple[list[str], dict[int, str]]:
    """Return texts, "" where missing, and why rows have none."""
    if set(map(type, cells)) <= {str}:
        return cells, {}
    texts, bad = [""] * len(cells), {}
    for row, cell in enumerate(cells):
        if isinstance(cell, str):
            texts[row] = cell
        elif isinstance(cell, bool) or not (cell is None or isinstance(cell, int | float)):
            bad[row] = f"{cell!r} is no text"
        elif isinstance(cell, float) and not cell.is_integer():
            if not np.isnan(cell):
                bad[row] = f"{cell!r} is no text and no whole number"
        elif cell is not None:
            texts[row] = str(int(cell))
    return texts, bad


def _column(told: Told, name: str) -> list[Any]:
    if isinstance(told, list):
        return [row[name] for row in told]
    cells: list[Any] = told[name].to_pylist()
    return cells


def _some(told: Told, places: list[int]) -> Told:
    if isinstance(told, list):
        return [told[i] for i in places]
    return told.take(pa.array(places, pa.int64()))


def _shown(told: Told, row: int) -> str:
    plain = told[row] if isinstance(told, list) else told.slice(row, 1).to_pylist()[0]
    return msgspec.json.encode(plain, enc_hook=str).decode()[:_SHOWN]
