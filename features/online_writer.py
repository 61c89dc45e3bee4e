"""Rows for the online store: the newest of each entity per interval, written by a thread."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np
import structlog

from features.online import OnlineRow
from features.records import FeatureRows

T = TypeVar("T")
R = TypeVar("R")

INTERVAL_S = 0.25
CHUNK = 500
REST = 3.0
"""For each second of writing so many seconds of rest: the events come first."""
ATTEMPTS = 5
FLUSH_TIMEOUT_S = 10.0


class Table(Protocol):
    """What rows are written to; :class:`features.online.OnlineTable`."""

    def rows(self, rows: FeatureRows, indices: Sequence[int]) -> list[OnlineRow]:
        """Return these rows as the table takes them."""
        ...

    def write(self, rows: Sequence[OnlineRow]) -> None:
        """Replace what the rows' entities had."""
        ...

    def times_ms(self, entities: Sequence[str]) -> dict[str, int]:
        """Return entity → event time of what is stored."""
        ...


class OnlineWriter:
    """Brings rows to the online store without holding up the worker.

    Of an entity's rows within an interval only the one with the newest event time is written, ties
    by log order; and only where the store has nothing newer, so a late event changes nothing.

    Args:
        open_table: makes the table; called in the writer's thread, may take seconds.
        fail: called with what went wrong for good.
        interval_s: how long rows are collected before they are written.
    """

    def __init__(
        self,
        open_table: Callable[[], Table],
        fail: Callable[[BaseException], None],
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._open_table = open_table
        self._fail = fail
        self._interval_s = interval_s
        self._offered: deque[FeatureRows] = deque()
        self._offers = 0
        self._pending: dict[str, tuple[int, FeatureRows, int]] = {}
        self._stored_ms: dict[str, int] = {}
        self._forget = False
        self._flushes: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[bool]]] = []
        self._hurry = threading.Event()
        self._closing = False
        self._is_open = False
        self._thread = threading.Thread(target=self._run, name="online-store", daemon=True)
        self.rows_written = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, rows: FeatureRows) -> None:
        """Take rows; never blocks."""
        if len(rows):
            self._offered.append(rows)
            self._offers += 1

    def forget(self) -> None:
        """Another worker may write from now on: look into the store again before writing."""
        self._forget = True

    async def flushed(self) -> bool:
        """Wait until what was offered is stored; False where the table is not open or too slow."""
        if not self._is_open:
            return False
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._flushes.append((self._offers, loop, future))
        self._hurry.set()
        try:
            return await asyncio.wait_for(future, FLUSH_TIMEOUT_S)
        except TimeoutError:
            return False

    def close(self) -> None:
        """Stop the thread; what is not flushed is offered again by the next run's replay."""
        self._closing = True
        self._hurry.set()

    def _run(self) -> None:
        try:
            table = self._open_table()
            # What Feast's import leaves, 300,000 objects, would be walked at each full collection.
            gc.collect()
            gc.freeze()
            self._is_open = True
            structlog.get_logger().info("online store open")
            while not self._closing:
                self._hurry.wait(self._interval_s)
                self._cycle(table)
                if not self._flushes:
                    self._hurry.clear()
        except BaseException as error:
            self._fail(error)

    def _cycle(self, table: Table) -> None:
        if self._forget:
            self._forget = False
            self._stored_ms.clear()
        taken = self._offers
        self._collect()
        due = list(self._pending)
        for first in range(0, len(due), CHUNK):
            started = time.monotonic()
            self._write(table, due[first : first + CHUNK])
            self._collect()  # rows refer to their batches: merging lets those go
            self._hurry.wait(REST * (time.monotonic() - started))
        for flush in [flush for flush in self._flushes if flush[0] <= taken]:
            self._flushes.remove(flush)
            _, loop, future = flush
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_resolve, future)

    def _collect(self) -> None:
        """Merge what was offered, batch by batch, into the newest row per entity."""
        pending = self._pending
        for _ in range(len(self._offered)):
            rows = self._offered.popleft()
            order = np.argsort(rows.event_times_ms, kind="stable").tolist()
            newest = dict(zip(map(rows.entities.__getitem__, order), order, strict=True))
            times_ms = rows.event_times_ms
            for entity, i in newest.items():
                time_ms = int(times_ms[i])
                if entity not in pending or time_ms >= pending[entity][0]:
                    pending[entity] = (time_ms, rows, i)

    def _write(self, table: Table, entities: list[str]) -> None:
        unknown = [entity for entity in entities if entity not in self._stored_ms]
        if unknown:
            self._stored_ms.update(_insist(table.times_ms, unknown))
        chosen = [(entity, self._pending.pop(entity)) for entity in entities]
        rows: list[OnlineRow] = []
        for entity, (time_ms, batch, i) in chosen:
            if time_ms >= self._stored_ms.get(entity, time_ms):
                rows += table.rows(batch, [i])
                self._stored_ms[entity] = time_ms
        if rows:
            _insist(table.write, rows)
            self.rows_written += len(rows)


def _resolve(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(True)


def _insist(action: Callable[[T], R], argument: T) -> R:
    """Try several times: two workers on one SQLite file may lock each other out for a while."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action(argument)
        except Exception as error:
            if attempt == ATTEMPTS:
                raise
            structlog.get_logger().warning("online store refuses, trying again", why=str(error))
            time.sleep(0.1 * 2**attempt)
    raise AssertionError("unreachable")
