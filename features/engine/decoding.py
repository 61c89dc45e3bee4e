"""From the bytes of a log batch to records of a type; what can't be used becomes a dead letter."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
import numpy as np

from streams.batch import LogBatch
from streams.dead_letters import DECODE_ERROR, NULL_VALUE, VALIDATION_ERROR, DeadLetter

UNUSABLE = (ValueError, TypeError, OverflowError, RecursionError)

Columns = TypeVar("Columns")
Decode = Callable[[bytes], msgspec.Struct]
MakeColumns = Callable[[list[int], list[Any]], Columns]


def decode_batch(
    batch: LogBatch, decode: Decode, make_columns: MakeColumns[Columns]
) -> tuple[Columns, list[DeadLetter]]:
    """Return the usable records as columns, and a dead letter for each of the others.

    ``make_columns`` is given places in the batch and the records there; it raises one of
    :data:`UNUSABLE` where a record's values can't be used, and has no other effect.
    """
    dead: list[DeadLetter] = []
    rows = list(range(len(batch)))
    try:
        records = list(map(decode, batch.values))  # type: ignore[arg-type]
    except UNUSABLE:
        rows, records = _decode_singly(batch, decode, dead)
    try:
        return make_columns(rows, records), dead
    except UNUSABLE:
        places = _sift(batch, make_columns, rows, records, range(len(rows)), dead)
        return make_columns(take(rows, places), take(records, places)), dead


def _decode_singly(
    batch: LogBatch, decode: Decode, dead: list[DeadLetter]
) -> tuple[list[int], list[msgspec.Struct]]:
    """Return (places in the batch, records) of what can be decoded; the others join ``dead``."""
    rows: list[int] = []
    records: list[msgspec.Struct] = []
    for row, value in enumerate(batch.values):
        if value is None:
            dead.append(dead_letter(batch, row, NULL_VALUE, "the record has no value"))
            continue
        try:
            records.append(decode(value))
        except msgspec.ValidationError as error:
            dead.append(dead_letter(batch, row, VALIDATION_ERROR, str(error)))
        except UNUSABLE as error:
            dead.append(dead_letter(batch, row, DECODE_ERROR, str(error)))
        else:
            rows.append(row)
    return rows, records


def _sift(
    batch: LogBatch,
    make_columns: MakeColumns[Columns],
    rows: list[int],
    records: list[msgspec.Struct],
    places: range,
    dead: list[DeadLetter],
) -> list[int]:
    """Return those of ``places`` whose records have usable values, by halving; rest: dead."""
    if not places:
        return []
    try:
        make_columns(rows[places.start : places.stop], records[places.start : places.stop])
    except UNUSABLE as error:
        if len(places) == 1:
            row = rows[places.start]
            dead.append(dead_letter(batch, row, VALIDATION_ERROR, str(error)))
            return []
        middle = len(places) // 2
        halves = places[:middle], places[middle:]
        return [p for h in halves for p in _sift(batch, make_columns, rows, records, h, dead)]
    return list(places)


def dead_letter(batch: LogBatch, row: int, error: str, reason: str) -> DeadLetter:
    """Return the dead letter of the record at place ``row`` of a batch."""
    return DeadLetter(
        error=error,
        reason=reason,
        topic=batch.topic,
        partition=batch.partition,
        offset=int(batch.offsets[row]),
        key=batch.keys[row],
        value=batch.values[row],
        timestamp_ms=int(batch.timestamps_ms[row]),
    )


def take(values: list[Any], rows: Iterable[int]) -> list[Any]:
    """Return the values at some places."""
    return list(map(values.__getitem__, rows))


def trim_before(batch: LogBatch, first_offset: int) -> LogBatch:
    """Return the records from ``first_offset`` on."""
    n = int(np.searchsorted(batch.offsets, first_offset))
    if n == 0:
        return batch
    return replace(
        batch,
        offsets=batch.offsets[n:],
        timestamps_ms=batch.timestamps_ms[n:],
        keys=batch.keys[n:],
        values=batch.values[n:],
    )
