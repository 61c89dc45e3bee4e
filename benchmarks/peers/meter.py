"""What every peer in Python measures itself with: one line of JSON, and the process ends."""

import json
import os
import time
from collections.abc import Sequence
from importlib.metadata import version


class Meter:
    """Counts events; after the last one it prints the figures and ends the process.

    The line holds ``events``, ``cpu_s`` (of the process, all its threads) and ``wall_s`` between
    the end of the warm-up and the last event, and the ``versions`` of ``packages``.

    Args:
        events: how many there are to count.
        warm_up: how many of them come before the measuring begins.
        packages: what the line names the versions of.
        counts_per_event: how often :meth:`add` is told of an event.
    """

    def __init__(
        self, events: int, warm_up: int, packages: Sequence[str], counts_per_event: int = 1
    ) -> None:
        self._events = events * counts_per_event
        self._warm_up = warm_up * counts_per_event
        self._counts_per_event = counts_per_event
        self._packages = packages
        self._seen = 0
        self._next = self._warm_up
        self._began = (0, 0.0, 0.0)

    def add(self, events: int = 1) -> None:
        """Count events that were just processed."""
        self._seen += events
        if self._seen >= self._next:
            self._passed()

    def _passed(self) -> None:
        now = (self._seen, time.process_time(), time.perf_counter())
        if self._next == self._warm_up:
            self._began, self._next = now, self._events
        if self._seen < self._events:
            return
        counted, cpu_s, wall_s = (b - a for a, b in zip(self._began, now, strict=True))
        line = {
            "events": counted / self._counts_per_event,
            "cpu_s": cpu_s,
            "wall_s": wall_s,
            "versions": {package: version(package) for package in self._packages},
        }
        os.write(1, f"{json.dumps(line)}\n".encode())  # a framework may have taken sys.stdout
        os._exit(0)  # and may have no way to stop from within
