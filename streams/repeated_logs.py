"""A log that says the same again and again is read by nobody: one line of a kind per minute."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

EVERY_S = 60.0
KINDS = 1_000
"""So many kinds are remembered at most."""

_VARYING = re.compile(r"\[[^]]*\]|\([^)]*\)|0x[0-9a-f]+|(?<![\d.:])\d+(?:\.\d+)?(?:m?s)?(?![\d.:])")


def kind_of(message: str) -> str:
    """Return what a message has in common with its repetitions: it, without counts and times.

    >>> kind_of("FAIL [rdkafka#producer-6] [thrd:a]: 10.0.0.1:9092: refused (after 3ms in state X)")
    'FAIL : 10.0.0.1:9092: refused'
    """
    return " ".join(_VARYING.sub("", message).split())


class Seldom(logging.Filter):
    """Lets one message of a kind pass per ``every_s`` seconds; the next says how many did not.

    Args:
        every_s: how often.
        timer: seconds that only grow.
    """

    def __init__(
        self, every_s: float = EVERY_S, timer: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._every_s, self._timer = every_s, timer
        self._lock = threading.Lock()
        self._passed: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to be written."""
        message = record.getMessage()
        kind, now_s = kind_of(message), self._timer()
        with self._lock:
            passed_s, held = self._passed.get(kind, (None, 0))
            if passed_s is not None and now_s - passed_s < self._every_s:
                self._passed[kind] = passed_s, held + 1
                return False
            if len(self._passed) >= KINDS:
                self._passed.clear()
            self._passed[kind] = now_s, 0
        if held:
            record.msg, record.args = f"{message} (and {held:,} more like it)", None
        return True
