"""Cutting batches and their output at an offset."""

from collections.abc import Callable
from dataclasses import replace
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from features.engine.engine import Processed
from features.records import FeatureRows
from streams.batch import LogBatch


def trim(batch: LogBatch, first_offset: int) -> LogBatch:
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


def from_offset(processed: Processed, first_offset: int) -> Processed:
    """Return the rows and dead letters whose source offset is ``first_offset`` or later."""
    rows = processed.rows
    n = int(np.searchsorted(rows.source_offsets, first_offset))
    dead = [letter for letter in processed.dead if letter.offset >= first_offset]
    if n == 0 and len(dead) == len(processed.dead):
        return processed
    return replace(
        processed,
        rows=cut(rows, n, len(rows)),
        keys=processed.keys[n:],
        dead=dead,
        places=processed.places[n:],
        stage_entities=processed.stage_entities[n:],
        next_entities=processed.next_entities[n:],
    )


def cut(rows: FeatureRows, first: int, end: int) -> FeatureRows:
    """Return rows [first, end)."""
    part = slice(first, end)
    return _selected(rows, part, lambda column: column[part])


def chosen(rows: FeatureRows, places: NDArray[np.int64]) -> FeatureRows:
    """Return the rows at some places, which ascend."""
    if len(places) == len(rows):
        return rows
    keep = np.zeros(len(rows), dtype=np.bool_)
    keep[places] = True
    mask = keep.tolist()
    return _selected(rows, places, lambda column: list(compress(column, mask)))


def _selected(
    rows: FeatureRows,
    places: slice | NDArray[np.int64],
    texts: Callable[[list[str]], list[str]],
) -> FeatureRows:
    def numbers(column: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
        return None if column is None else column[places]

    return FeatureRows(
        partition=rows.partition,
        event_ids=texts(rows.event_ids),
        entities=texts(rows.entities),
        event_times_ms=rows.event_times_ms[places],
        source_offsets=rows.source_offsets[places],
        numeric=rows.numeric[places],
        categories=list(map(texts, rows.categories)),
        groups=list(map(texts, rows.groups)),
        label_offsets=numbers(rows.label_offsets),
        origin_partitions=numbers(rows.origin_partitions),
        origin_offsets=numbers(rows.origin_offsets),
    )
