"""Cutting batches and their output at an offset."""

import numpy as np
from numpy.typing import NDArray

from features.engine import Processed
from features.records import FeatureRows
from streams.batch import LogBatch


def trim(batch: LogBatch, first_offset: int) -> LogBatch:
    """Return the records from ``first_offset`` on."""
    n = int(np.searchsorted(batch.offsets, first_offset))
    if n == 0:
        return batch
    return LogBatch(
        topic=batch.topic,
        partition=batch.partition,
        offsets=batch.offsets[n:],
        timestamps_ms=batch.timestamps_ms[n:],
        keys=batch.keys[n:],
        values=batch.values[n:],
        next_offset=batch.next_offset,
    )


def from_offset(processed: Processed, first_offset: int) -> Processed:
    """Return the rows and dead letters whose source offset is ``first_offset`` or later."""
    rows = processed.rows
    n = int(np.searchsorted(rows.source_offsets, first_offset))
    dead = [letter for letter in processed.dead if letter.offset >= first_offset]
    if n == 0 and len(dead) == len(processed.dead):
        return processed
    return Processed(cut(rows, n, len(rows)), processed.keys[n:], dead, processed.late)


def cut(rows: FeatureRows, first: int, end: int) -> FeatureRows:
    """Return rows [first, end)."""
    part = slice(first, end)
    return FeatureRows(
        partition=rows.partition,
        event_ids=rows.event_ids[part],
        entities=rows.entities[part],
        event_times_ms=rows.event_times_ms[part],
        source_offsets=rows.source_offsets[part],
        numeric=rows.numeric[part],
        categories=[column[part] for column in rows.categories],
        groups=[column[part] for column in rows.groups],
        label_offsets=_part(rows.label_offsets, part),
        origin_partitions=_part(rows.origin_partitions, part),
        origin_offsets=_part(rows.origin_offsets, part),
    )


def _part(column: NDArray[np.int64] | None, part: slice) -> NDArray[np.int64] | None:
    return None if column is None else column[part]
