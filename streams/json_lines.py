"""JSON-lines files: each line goes into the log as it stands, byte for byte.

Only the entity (the record's key) and the time are read here; whether the rest fits the type is
judged once, by who reads the log.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.errors import SourceError
from streams.files import not_utf8, open_binary, reading
from streams.recording import Recording
from streams.rows import record_keys, record_times

_BLOCK_BYTES = 4 << 20
_LATEST_MS = 1 << 53


def read_json_lines(
    path: Path, entity: str, time: str, required: Sequence[str], is_label: bool
) -> Iterator[Recording]:
    """Yield the lines in blocks, in the order of the file.

    A line that is no JSON, or whose time is no whole number, gets the timestamp of the line
    before it.

    Raises:
        SourceError: the file can't be read, is empty, holds no JSON objects, or none of its
            first lines has one of the fields ``required``.
    """
    before_ms: int | None = None
    head = _head_type(entity, time)
    with open_binary(path) as file, reading(path):
        while block := file.readlines(_BLOCK_BYTES):
            lines = [line for line in map(bytes.strip, block) if line]
            if not lines:
                continue
            if before_ms is None:
                _check_first(path, lines[:1000], required)
            heads = _decode(lines, head)
            filled_ms = record_times(*_times([head.time for head in heads]), before_ms)
            before_ms = int(filled_ms[-1])
            yield Recording(
                filled_ms,
                np.full(len(lines), is_label),
                record_keys(_entities([head.entity for head in heads])),
                lines,
            )
    if before_ms is None:
        raise SourceError(f"{path} is empty: it has no lines but blank ones")


def _head_type(entity: str, time: str) -> type[msgspec.Struct]:
    fields = [("entity", Any, None), ("time", Any, None)]
    return msgspec.defstruct("Head", fields, rename={"entity": entity, "time": time}, gc=False)


def _decode(lines: list[bytes], head: type[msgspec.Struct]) -> list[Any]:
    decoder = msgspec.json.Decoder(head)
    try:
        return list(map(decoder.decode, lines))
    except msgspec.DecodeError:
        return [_decode_one(line, decoder, head) for line in lines]


def _decode_one(line: bytes, decoder: msgspec.json.Decoder[Any], head: type[msgspec.Struct]) -> Any:
    try:
        return decoder.decode(line)
    except msgspec.DecodeError:
        return head()


def _times(times: list[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return times (n,) and which of them are valid (n,): whole numbers in a sensible range."""
    if set(map(type, times)) != {int} or max(times) >= _LATEST_MS or min(times) < 0:
        valid = np.asarray([type(time) is int and 0 <= time < _LATEST_MS for time in times])
        times = [time if ok else 0 for time, ok in zip(times, valid.tolist(), strict=True)]
        return np.asarray(times, np.int64), valid
    return np.asarray(times, np.int64), np.ones(len(times), np.bool_)


def _entities(entities: list[Any]) -> list[str | int | None]:
    if set(map(type, entities)) <= {str, int}:
        return entities
    return [entity if type(entity) in (str, int) else None for entity in entities]


def _check_first(path: Path, lines: list[bytes], required: Sequence[str]) -> None:
    names: set[str] = set()
    objects = 0
    for line in lines:
        try:
            names |= msgspec.json.decode(line, type=dict[str, Any]).keys()
            objects += 1
        except msgspec.DecodeError:
            continue
    if not objects:
        try:
            lines[0].decode()
        except UnicodeDecodeError as error:
            raise not_utf8(path) from error
        raise SourceError(
            f"{path} holds no JSON objects, one on each line; its first line is {lines[0][:80]!r}"
        )
    missing = [name for name in required if name not in names]
    if missing:
        raise SourceError(
            f"{path} lacks the field{'s' if len(missing) > 1 else ''} "
            f"{', '.join(map(repr, missing))}; its first lines have "
            f"{', '.join(map(repr, sorted(names))) or 'none'}"
        )
