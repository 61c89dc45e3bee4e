"""Ends a process that is stuck, so that its supervisor starts it again."""

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Iterator

EXIT_STUCK = 75
"""Exit status (EX_TEMPFAIL): started again, the process goes on where it was."""


class Watchdog:
    """Exits the process where nobody says for ``limit_s`` seconds that all is well.

    It runs in a thread of its own, so a hung event loop or a deadlock does not stop it. With
    ``from_first_beat`` it begins to watch when it is told for the first time that all is well: how
    long a start takes depends on what has to be read again.
    """

    def __init__(self, limit_s: float, *, from_first_beat: bool = False) -> None:
        self._limit_s = limit_s
        self._seen_at: float | None = None if from_first_beat else time.monotonic()
        self._suspended = 0
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def beat(self) -> None:
        """Say that all is well."""
        self._seen_at = time.monotonic()

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Do not watch meanwhile: for a step that may rightly take long."""
        self._suspended += 1
        try:
            yield
        finally:
            if self._seen_at is not None:
                self.beat()
            self._suspended -= 1

    @property
    def silent_s(self) -> float:
        """For how long nobody has said that all is well; 0 while it is not watched."""
        seen_at = self._seen_at
        return 0.0 if seen_at is None or self._suspended else time.monotonic() - seen_at

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(min(1.0, self._limit_s / 4)):
            if self.silent_s > self._limit_s:
                sys.stderr.write(f"no progress for {self._limit_s:.0f} s: exit to be restarted\n")
                faulthandler.dump_traceback(all_threads=True)
                sys.stderr.flush()
                os._exit(EXIT_STUCK)


_of_process: Watchdog | None = None


@contextlib.contextmanager
def watching(limit_s: float) -> Iterator[Watchdog]:
    """Watch over this process's loop, which calls :func:`beat` at each of its turns."""
    global _of_process
    _of_process = watchdog = Watchdog(limit_s, from_first_beat=True)
    try:
        yield watchdog
    finally:
        _of_process = None
        watchdog.stop()


def beat() -> None:
    """Say that the loop of this process goes round; nothing where nobody watches it."""
    if _of_process is not None:
        _of_process.beat()


@contextlib.contextmanager
def suspended() -> Iterator[None]:
    """Not to be watched meanwhile: for a step of the loop that may rightly take long."""
    if _of_process is None:
        yield
        return
    with _of_process.suspended():
        yield
