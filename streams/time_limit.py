"""Calls with a time-out that is kept, whatever the client does.

librdkafka gives up most calls in time, but waits without end for a consumer group's coordinator
that went away and came back as another connection (its issues 5456 and 5511; seen with a broker
that is killed and restarted during a transaction). Nobody can end such a call: it is left behind in
its thread, and whoever called makes a new client.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import TypeAlias

_Job: TypeAlias = "tuple[Callable[[], object], Future[object]]"


class TimeLimit:
    """Runs calls one after the other in a thread of its own, and waits for each."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[_Job | None] | None = None

    def call(self, seconds: float, call: Callable[[], object]) -> None:
        """Run ``call`` and raise what it raises; TimeoutError where it takes longer."""
        if self._jobs is None:
            self._jobs = SimpleQueue()
            Thread(target=_work, args=(self._jobs,), name=self._name, daemon=True).start()
        done: Future[object] = Future()
        self._jobs.put((call, done))
        try:
            done.exception(seconds)
        except TimeoutError:
            self.close()  # the next call gets a thread that is not stuck
            raise
        done.result()

    def close(self) -> None:
        """End the thread, as soon as its call ends."""
        if self._jobs is not None:
            self._jobs.put(None)
            self._jobs = None


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        call, done = job
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)
        del job, call, done  # or it would hold on to the client until the next call
