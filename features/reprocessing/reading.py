"""How a build reads the log: one batch ahead of the work, in pieces, no faster than allowed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field

import numpy as np

from streams.batch import LogBatch
from streams.batch_transport import Fetched
from streams.errors import ConfigurationError

_ALL = 1 << 30


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far a pass over a stage's input has come.

    ``stage`` is the name of its processes, ``event_time_ms`` the newest record's time.
    """

    stage: str
    number: int
    partition: int
    done: int
    total: int
    events_per_s: float
    event_time_ms: int

    @property
    def eta_s(self) -> float | None:
        """Seconds until the pass ends at this speed; None while nobody can tell."""
        return (self.total - self.done) / self.events_per_s if self.events_per_s else None


class Meter:
    """Counts what a pass has done, and how fast it goes."""

    def __init__(self, stage: str, number: int, total: int) -> None:
        self._stage = stage
        self._number = number
        self._total = total
        self._done = 0
        self._began_s = time.perf_counter()

    def moved(self, fetched: Fetched) -> RebuildProgress:
        """Return the progress after one more stretch."""
        batch = fetched.batch
        self._done += batch.next_offset - fetched.start_offset
        elapsed_s = time.perf_counter() - self._began_s
        return RebuildProgress(
            stage=self._stage,
            number=self._number,
            partition=batch.partition,
            done=self._done,
            total=self._total,
            events_per_s=self._done / elapsed_s if elapsed_s else 0.0,
            event_time_ms=int(batch.timestamps_ms[-1]) if len(batch) else 0,
        )


@dataclass
class Throttle:
    """Holds a loop to ``rate`` events per second; without a rate it holds up nobody."""

    rate: float | None
    _due_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        """Check the rate; raises ConfigurationError."""
        if self.rate is not None and not self.rate > 0:
            raise ConfigurationError(f"rate {self.rate}: must be above 0 events per second")

    @property
    def piece(self) -> int:
        """How many events to take at once, so that the flow is even."""
        return _ALL if self.rate is None else max(1, int(self.rate / 10))

    async def take(self, events: int) -> None:
        """Wait until so many more events are due."""
        if self.rate is None:
            return
        now_s = time.monotonic()
        self._due_s = max(self._due_s, now_s) + events / self.rate
        await asyncio.sleep(self._due_s - now_s)


async def read_ahead(batches: Iterator[LogBatch]) -> AsyncGenerator[LogBatch, None]:
    """Yield the batches; while one is worked on, the next is read in a thread."""
    coming = asyncio.create_task(asyncio.to_thread(next, batches, None))
    try:
        while (batch := await coming) is not None:
            coming = asyncio.create_task(asyncio.to_thread(next, batches, None))
            yield batch
    finally:
        await asyncio.wait({coming})
        close = getattr(batches, "close", None)
        if close is not None:
            await asyncio.to_thread(close)


def stretches(batch: LogBatch, start: int, size: int) -> Iterator[Fetched]:
    """Yield a batch that was read from ``start`` on, in pieces of at most ``size`` records."""
    if len(batch) <= size:
        yield Fetched(start, batch, {})
        return
    for first in range(0, len(batch), size):
        end = min(first + size, len(batch))
        next_offset = batch.next_offset if end == len(batch) else int(batch.offsets[end])
        piece = LogBatch(
            topic=batch.topic,
            partition=batch.partition,
            offsets=batch.offsets[first:end],
            timestamps_ms=batch.timestamps_ms[first:end],
            keys=batch.keys[first:end],
            values=batch.values[first:end],
            next_offset=next_offset,
        )
        yield Fetched(start, piece, {})
        start = next_offset


def nothing(topic: str, partition: int, start: int, end: int) -> Fetched:
    """Return a stretch without records: a transaction's marks, which no reader sees."""
    none = np.empty(0, dtype=np.int64)
    return Fetched(start, LogBatch(topic, partition, none, none, [], [], end), {})
