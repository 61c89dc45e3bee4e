"""What a build sends out and what it hears back: rows counted and chosen, the first failure."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from features.engine.engine import Processed
from features.processing.processor import Emitter
from features.processing.selection import chosen
from streams.batch import LogBatch
from streams.snapshots import Snapshot, SnapshotStore

T = TypeVar("T")


class Failure:
    """The first thing that went wrong in any thread; whoever waits for work hears of it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    def __call__(self, error: BaseException) -> None:
        """Take an error; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._take, error)

    async def or_result(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what ``work`` returns, or raise what went wrong elsewhere meanwhile."""
        task: asyncio.Task[T] = asyncio.ensure_future(work)
        waited: set[asyncio.Future[Any]] = {task, self._future}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if self._future.done():
            task.cancel()
            await asyncio.wait({task})
            self._future.result()
        return task.result()

    def _take(self, error: BaseException) -> None:
        if not self._future.done():
            self._future.set_exception(error)


class Output:
    """Counts the rows, and leaves out those of other events than asked for."""

    def __init__(self, emitter: Emitter, ranges: Mapping[int, tuple[int, int]] | None) -> None:
        self._emitter = emitter
        self._ranges = ranges
        self._sent: set[asyncio.Future[None]] = set()
        self.rows = 0

    def emit(
        self, processed: Processed, traceparents: Mapping[int, bytes], batch: LogBatch
    ) -> asyncio.Future[None]:
        if self._ranges is not None:
            processed = within(processed, self._ranges)
        self.rows += len(processed.rows)
        receipt = self._emitter.emit(processed, traceparents, batch)
        self._sent.add(receipt)
        receipt.add_done_callback(self._sent.discard)
        return receipt

    async def acknowledged(self) -> None:
        """Wait until the broker has all that was emitted."""
        while self._sent:
            await asyncio.wait(self._sent)


class NoSnapshots(SnapshotStore):
    """Keeps nothing: a range is built from the beginning of the log, and not gone on with."""

    def save(self, partition: int, snapshot: Snapshot) -> None:
        """Do nothing."""

    def load(self, partition: int) -> Snapshot | None:  # noqa: ARG002 - as its base has it
        """Return None."""
        return None


def within(processed: Processed, ranges: Mapping[int, tuple[int, int]]) -> Processed:
    """Return the rows of events in the ranges; of the rest what an emitter needs is left out."""
    rows = processed.rows
    if rows.origin_offsets is None or rows.origin_partitions is None:
        offsets = rows.source_offsets
        partitions = np.full(len(rows), rows.partition, dtype=np.int64)
    else:
        offsets, partitions = rows.origin_offsets, rows.origin_partitions
    inside = np.zeros(len(rows), dtype=np.bool_)
    for partition, (first, end) in ranges.items():
        inside |= (partitions == partition) & (offsets >= first) & (offsets < end)
    places = np.flatnonzero(inside)
    keys = [processed.keys[place] for place in places.tolist()]
    return replace(processed, rows=chosen(rows, places), keys=keys, places=processed.places[places])
