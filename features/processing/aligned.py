"""Reading the partitions of a stage side by side in the order of time, as far as is known.

What an earlier stage makes of its partitions flows together in the next stage's topic, whose order
is the order in which the next stage sees the events. A worker with a backlog fetches thousands of
records of one partition, then of the next; passed on like that, an event could come days of event
time behind another, too late for any window. So work goes in rounds: up to the newest time that
all partitions with a backlog have been fetched to, the rows of all are merged by record timestamp.

Near the ends of the logs nobody waits for what may come: what is there is passed on at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from streams.batch_transport import Bounds, Fetched, PartitionOwner

Ints = NDArray[np.int64]

MOST_HELD = 100_000
"""Records held back at most; beyond, nobody is waited for. A partition may be out of reach."""


MOST_AT_ONCE = 20_000
"""Records of one round; less than the processor takes without an acknowledgement."""


class Processor(PartitionOwner, Protocol):
    """What the stretches are for; :class:`features.processing.processor.FeatureProcessor`."""

    async def handle(self, fetched: Fetched) -> None:
        """Take the next stretch of a partition."""
        ...

    async def close(self) -> None:
        """Take no further stretch; wait for the acknowledgements and save all."""
        ...


class RoundEmitter(Protocol):
    """The processor's emitter; :class:`features.reprocessing.merging.MergedRekeying`."""

    def send_round(self, times_ms: Mapping[int, tuple[Ints, Ints]]) -> None:
        """Send what the processor gave since the last round, in the order of these times."""
        ...


class AlignedReading:
    """Stands before the processor of a stage that is not the last; an owner of partitions too.

    Args:
        processor: what the stretches are for.
        emitter: the processor's; sends each round.
        ends: returns partition → end of the log as the broker says now.
    """

    def __init__(
        self,
        processor: Processor,
        emitter: RoundEmitter,
        ends: Callable[[], Awaitable[Mapping[int, int]]],
    ) -> None:
        self._processor, self._emitter, self._ends = processor, emitter, ends
        self._held: dict[int, deque[Fetched]] = {}
        self._reached: dict[int, int] = {}  # partition → next offset that was not fetched yet
        self._newest: dict[int, int] = {}  # partition → latest time so far
        self._lock = asyncio.Lock()

    async def assigned(self, partitions: Mapping[int, Bounds]) -> Mapping[int, int]:
        """Begin anew where the states stand; what was held back is fetched again."""
        async with self._lock:
            offsets = await self._processor.assigned(partitions)
            self._held = {number: deque() for number in partitions}
            self._reached, self._newest = dict(offsets), {}
            return offsets

    async def revoked(self, partitions: set[int]) -> None:
        """Let go of them."""
        async with self._lock:
            for number in partitions:
                self._held.pop(number, None)
                self._reached.pop(number, None)
                self._newest.pop(number, None)
            await self._processor.revoked(partitions)

    async def close(self) -> None:
        """Take no further stretch, and close the processor between two rounds."""
        await self._lock.acquire()  # for good
        await self._processor.close()

    async def handle(self, fetched: Fetched) -> None:
        """Take the next stretch of a partition; pass on what is ready."""
        number = fetched.batch.partition
        async with self._lock:
            if number not in self._held:
                return  # revoked meanwhile
            if fetched.start_offset > self._reached[number]:
                return  # fetched before the last assignment: it is fetched again
            self._held[number].append(fetched)
            self._reached[number] = max(self._reached[number], fetched.batch.next_offset)
            await self._round(await self._limit_ms())

    async def _limit_ms(self) -> int | None:
        """Return up to which time all that is held may pass; None where it must wait."""
        if len(self._held) == 1:
            return _NO_LIMIT
        try:
            ends = await self._ends()
        except Exception as error:  # in a rebalance: nobody is waited for
            structlog.get_logger().warning("the logs' ends are not known", why=repr(error))
            return _NO_LIMIT
        behind = [p for p, reached in self._reached.items() if reached < ends.get(p, 0)]
        held = sum(len(f.batch) for stretches in self._held.values() for f in stretches)
        if held > MOST_HELD:
            behind = [p for p in behind if self._held[p]]
        elif any(not self._held[p] for p in behind):
            return None
        return min((self._latest_ms(p) for p in behind), default=_NO_LIMIT)

    def _latest_ms(self, number: int) -> int:
        """Return the time that a partition has been fetched to."""
        times_ms = self._times_ms(number)
        return int(times_ms[-1]) if len(times_ms) else self._newest.get(number, -_NO_LIMIT)

    def _times_ms(self, number: int) -> Ints:
        """Return the times of what is held of a partition; none before the one in front of it."""
        parts = [f.batch.timestamps_ms for f in self._held[number]]
        times_ms = np.maximum.accumulate(np.concatenate([np.empty(0, np.int64), *parts]))
        return np.maximum(times_ms, self._newest.get(number, -_NO_LIMIT))

    async def _round(self, limit_ms: int | None) -> None:
        """Pass on what is not later than ``limit_ms``, merged; in several rounds if it is much."""
        while limit_ms is not None:
            until_ms = min(limit_ms, self._enough_ms())
            times_ms: dict[int, tuple[Ints, Ints]] = {}
            for number in sorted(self._held):
                taken = [(np.empty(0, np.int64), np.empty(0, np.int64))]
                while (piece := self._next(number, until_ms)) is not None:
                    fetched, piece_ms = piece
                    taken.append((fetched.batch.offsets, piece_ms))
                    await self._processor.handle(fetched)
                offsets, at_ms = (np.concatenate(column) for column in zip(*taken, strict=True))
                times_ms[number] = offsets, at_ms
            self._emitter.send_round(times_ms)
            if until_ms == limit_ms:
                return

    def _enough_ms(self) -> int:
        """Return the time up to which a round has enough records."""
        whole = np.sort(np.concatenate([self._times_ms(number) for number in self._held]))
        return int(whole[MOST_AT_ONCE]) if len(whole) > MOST_AT_ONCE else _NO_LIMIT

    def _next(self, number: int, limit_ms: int) -> tuple[Fetched, Ints] | None:
        """Take the next stretch of a partition up to a time, with its records' times.

        A record that is earlier than one before it counts as that one: its partition's order stays.
        """
        held = self._held[number]
        if not held:
            return None
        fetched, batch = held[0], held[0].batch
        newest = self._newest.get(number, -_NO_LIMIT)
        at_ms = np.maximum(np.maximum.accumulate(batch.timestamps_ms), newest)
        n = int(np.searchsorted(at_ms, limit_ms, "right"))
        if n == len(batch):
            held.popleft()
        elif n == 0:
            return None
        else:
            next_offset = int(batch.offsets[n])
            rest = _part(fetched, slice(n, None), batch.next_offset)
            held[0] = replace(rest, start_offset=next_offset)
            fetched = _part(fetched, slice(0, n), next_offset)
        if n:
            self._newest[number] = int(at_ms[n - 1])
        return fetched, at_ms[:n]


_NO_LIMIT = 2**62


def _part(fetched: Fetched, part: slice, next_offset: int) -> Fetched:
    batch = fetched.batch
    return replace(
        fetched,
        batch=replace(
            batch,
            offsets=batch.offsets[part],
            timestamps_ms=batch.timestamps_ms[part],
            keys=batch.keys[part],
            values=batch.values[part],
            next_offset=next_offset,
        ),
    )
