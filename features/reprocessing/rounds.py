"""Rounds: up to which time all partitions of a stage's input have been read, and their pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from features.processing.stages import Stage
from features.reprocessing.merging import MergedRekeying
from features.reprocessing.reading import nothing, read_ahead
from streams.batch import LogBatch
from streams.batch_transport import Fetched
from streams.replay import read_ranges

PIECE = 4_000
"""As many records of each partition wait, while there are more, before a round is cut."""

Ints = NDArray[np.int64]


class MergedReading:
    """The partitions of a stage's input, cut into rounds.

    Every record that is left after a round is as new as the round's limit or newer, so a build that
    goes on there cuts as one that was not stopped.

    Args:
        bootstrap: the brokers.
        stage: the stage.
        emitter: where its rows go.
    """

    def __init__(self, bootstrap: str, stage: Stage, emitter: MergedRekeying) -> None:
        self._bootstrap = bootstrap
        self._stage = stage
        self._emitter = emitter
        self._times_ms: dict[int, tuple[Ints, Ints]] = {}

    async def rounds(
        self, stretch: Mapping[int, tuple[int, int]], most: int
    ) -> AsyncGenerator[list[Fetched], None]:
        """Yield the pieces of each round, at most one per partition, about ``most`` records.

        ``stretch``: partition → [first, end) of what to read.
        """
        inputs = [
            _Input(self._bootstrap, self._stage.input, partition, first, end)
            for partition, (first, end) in stretch.items()
        ]
        try:
            while any(not source.is_over for source in inputs):
                open_ones = [source for source in inputs if not source.ended]
                low = [source for source in open_ones if len(source.times_ms) < PIECE]
                if low:
                    await asyncio.gather(*(source.extend() for source in low))
                    continue
                frontier = min((int(s.times_ms[-1]) for s in open_ones), default=1 << 62)
                ready = [source for source in inputs if source.count(frontier)]
                if not ready and open_ones:
                    # All that is read has the same time: there may be more of it.
                    stuck = [s for s in open_ones if s.times_ms[-1] == frontier]
                    await asyncio.gather(*(source.extend() for source in stuck))
                    continue
                yield self._cut(inputs, _lowered(ready, frontier, most))
        finally:
            await asyncio.gather(*(source.close() for source in inputs))

    async def send(self) -> None:
        """Merge and queue what the round's pieces gave, once all have been processed."""
        await self._emitter.send(self._times_ms)

    def _cut(self, inputs: list[_Input], frontier: int) -> list[Fetched]:
        pieces, self._times_ms = [], {}
        for source in inputs:
            n = source.count(frontier)
            if not n and not source.at_rest:
                continue
            times_ms = source.times_ms[:n]
            piece = source.cut(n)
            pieces.append(piece)
            self._times_ms[source.partition] = piece.batch.offsets, times_ms
        return pieces


class _Input:
    """One partition: what was read of it and is not processed yet."""

    def __init__(self, bootstrap: str, topic: str, partition: int, first: int, end: int) -> None:
        self.partition = partition
        self.ended = False
        self.times_ms = np.empty(0, dtype=np.int64)  # running maximum
        self._position, self._end = first, end
        self._newest_ms = 0
        self._batch = nothing(topic, partition, first, first).batch
        self._reading = read_ahead(read_ranges(bootstrap, topic, {partition: (first, end)}))

    @property
    def at_rest(self) -> bool:
        """Whether only marks of transactions are left."""
        return self.ended and not len(self.times_ms) and self._position < self._end

    @property
    def is_over(self) -> bool:
        return self.ended and self._position >= self._end

    def count(self, frontier: int) -> int:
        """Return how many of the waiting records are before ``frontier``."""
        return int(np.searchsorted(self.times_ms, frontier))

    async def extend(self) -> None:
        """Read the next batch."""
        batch = await anext(self._reading, None)
        if batch is None:
            self.ended = True
            return
        times_ms = np.maximum.accumulate(batch.timestamps_ms).clip(self._newest_ms)
        self._newest_ms = int(times_ms[-1])
        self.times_ms = np.concatenate([self.times_ms, times_ms])
        self._batch = replace(
            batch,
            offsets=np.concatenate([self._batch.offsets, batch.offsets]),
            timestamps_ms=np.concatenate([self._batch.timestamps_ms, batch.timestamps_ms]),
            keys=self._batch.keys + batch.keys,
            values=self._batch.values + batch.values,
        )

    def cut(self, n: int) -> Fetched:
        """Take the first n records off; all with what stands behind them where it is the end."""
        batch, whole = self._batch, n == len(self._batch)
        next_offset = batch.next_offset if whole else int(batch.offsets[n])
        if whole and self.ended:
            next_offset = self._end
        piece, self._batch = _halves(batch, n, next_offset)
        self.times_ms = self.times_ms[n:]
        fetched = Fetched(self._position, piece, {})
        self._position = next_offset
        return fetched

    async def close(self) -> None:
        await self._reading.aclose()


def _lowered(ready: list[_Input], frontier: int, most: int) -> int:
    """Return a frontier that lets through about ``most`` records, or the same."""
    counts = [source.count(frontier) for source in ready]
    if sum(counts) <= most:
        return frontier
    times_ms = [source.times_ms[:n] for source, n in zip(ready, counts, strict=True)]
    lower = int(np.partition(np.concatenate(times_ms), most)[most])
    return lower if any(source.count(lower) for source in ready) else frontier


def _halves(batch: LogBatch, n: int, next_offset: int) -> tuple[LogBatch, LogBatch]:
    first, rest = slice(0, n), slice(n, None)
    head, tail = (
        replace(
            batch,
            offsets=batch.offsets[part],
            timestamps_ms=batch.timestamps_ms[part],
            keys=batch.keys[part],
            values=batch.values[part],
        )
        for part in (first, rest)
    )
    return replace(head, next_offset=next_offset), tail
