"""Re-keying in a build: the partitions' rows go on in the order of time, whatever is read first.

A re-keyed topic is a log of its own, and its order is its content. So a build of it must not depend
on how the partitions happened to be read: all are merged by record timestamp, ties by partition,
each keeping its own order (a record that is earlier than one before it counts as that one). Work
goes in rounds: up to the newest time that all partitions have been read to, each is processed in
one piece, and what the pieces gave is merged and sent. Between rounds nothing is in hand, so a
build can be stopped and gone on with there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from features.engine.engine import Processed
from features.processing.emission import all_of, row_records, send_dead
from features.processing.rekeying import RekeyingEmitter, rekeyed
from features.processing.stages import Stage
from features.records import FeatureRows
from streams.batch import LogBatch
from streams.byte_columns import ByteColumn
from streams.partitioning import partitions_of

Ints = NDArray[np.int64]


class MergedRekeying(RekeyingEmitter):
    """Holds back what it is given until the round is complete, then sends it merged."""

    def __init__(self, bootstrap: str, stage: Stage) -> None:
        super().__init__(bootstrap, stage)
        self._waiting: list[_Piece] = []
        self._came = asyncio.Event()

    def emit(
        self,
        processed: Processed,
        traceparents: Mapping[int, bytes],
        batch: LogBatch,
    ) -> asyncio.Future[None]:
        """Take a piece of the round; the future is set when the broker has the whole round."""
        receipt: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((processed, traceparents, batch, receipt))
        self._came.set()
        return receipt

    async def send(self, times_ms: Mapping[int, tuple[Ints, Ints]]) -> None:
        """Wait for one piece per partition, and queue their rows in the order of time.

        ``times_ms``: partition → (offsets, times) of its piece's records, both ascending.
        """
        while len(self._waiting) < len(times_ms):
            self._came.clear()
            await self._came.wait()
        self.send_round(times_ms)

    def send_round(self, times_ms: Mapping[int, tuple[Ints, Ints]]) -> None:
        """Queue the rows of all pieces taken so far in the order of time, and the dead letters."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        made = [(p, *rekeyed(self._stage, self._codec, p, batch)) for p, _, batch, _ in waiting]
        order = _in_time([processed.rows for processed, _, _ in made], times_ms)
        keys = _joined([keys for _, keys, _ in made])
        values = _joined([values for _, _, values in made])
        rows = [processed.rows for processed, _, _ in made]
        ids = [event_id for part in rows for event_id in part.event_ids]
        event_times_ms = np.concatenate([part.event_times_ms for part in rows])
        targets = partitions_of(keys, self._stage.events.partitions)[order]
        traces = _traces(waiting)
        sent = [
            future
            for processed, _, batch, _ in waiting
            for future in send_dead(self._producer, self._dead(processed, batch))
        ]
        for target in np.unique(targets).tolist():
            places = order[targets == target]
            of_target = FeatureRows(
                partition=target,
                event_ids=[ids[place] for place in places.tolist()],
                entities=[],
                event_times_ms=event_times_ms[places],
                source_offsets=places,
                numeric=np.empty((len(places), 0)),
                categories=[],
                groups=[],
            )
            records = partial(
                row_records, of_target, keys.at(places), values.at(places), traces, self._fixed
            )
            sent.append(self._producer.send(self._stage.output, target, records))
        receipts = [receipt for *_, receipt in waiting]
        all_of(sent, self._loop).add_done_callback(partial(_settle, receipts))


_Piece = tuple[Processed, Mapping[int, bytes], LogBatch, asyncio.Future[None]]


def _traces(pieces: Sequence[_Piece]) -> dict[int, bytes]:
    """Return place among the rows of all pieces → header of the trace."""
    found: dict[int, bytes] = {}
    first = 0
    for processed, traceparents, *_ in pieces:
        offsets = processed.rows.source_offsets
        if traceparents:
            for place, offset in enumerate(offsets.tolist(), first):
                if offset in traceparents:
                    found[place] = traceparents[offset]
        first += len(offsets)
    return found


def _in_time(rows: list[FeatureRows], times_ms: Mapping[int, tuple[Ints, Ints]]) -> Ints:
    """Return the order of all rows by time, partition, offset."""
    at: list[Ints] = []
    for part in rows:
        offsets, piece_ms = times_ms[part.partition]
        at.append(piece_ms[np.searchsorted(offsets, part.source_offsets)])
    partitions = np.concatenate([np.full(len(part), part.partition) for part in rows])
    offsets = np.concatenate([part.source_offsets for part in rows])
    return np.lexsort((offsets, partitions, np.concatenate(at)))


def _joined(columns: list[ByteColumn]) -> ByteColumn:
    shifts = np.cumsum([0, *(len(column.data) for column in columns[:-1])])
    starts = [column.starts + shift for column, shift in zip(columns, shifts, strict=True)]
    return ByteColumn(
        b"".join(column.data for column in columns),
        np.concatenate(starts),
        np.concatenate([column.lengths for column in columns]),
    )


def _settle(receipts: list[asyncio.Future[None]], sent: asyncio.Future[None]) -> None:
    error = sent.exception()
    for receipt in receipts:
        if receipt.done():
            continue
        if error is not None:
            receipt.set_exception(error)
        else:
            receipt.set_result(None)
