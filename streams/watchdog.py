"""Ends a process that is stuck, so that its supervisor starts it again."""

import faulthandler
import os
import sys
import threading
import time

EXIT_STUCK = 75
"""Exit status (EX_TEMPFAIL): started again, the process goes on where it was."""


class Watchdog:
    """Exits the process where nobody says for ``limit_s`` seconds that all is well.

    It runs in a thread of its own, so a hung event loop or a deadlock does not stop it.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._seen_at = time.monotonic()
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def beat(self) -> None:
        """Say that all is well."""
        self._seen_at = time.monotonic()

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(min(1.0, self._limit_s / 4)):
            if time.monotonic() - self._seen_at > self._limit_s:
                sys.stderr.write(f"no progress for {self._limit_s:.0f} s: exit to be restarted\n")
                faulthandler.dump_traceback(all_threads=True)
                sys.stderr.flush()
                os._exit(EXIT_STUCK)
