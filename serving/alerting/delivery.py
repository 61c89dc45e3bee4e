"""The way of alerts to one target: a thread, a queue, and a committed position of its own.

A record is done when the target has taken it; then the position is committed under the target's
own consumer group. So a target that is dead holds up nobody else, what it missed is sent once it
is back, in order, and after a crash at most the record under way is sent again.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from serving.alerting.sending import NotDelivered, Refused
from serving.alerting.standing import at_least
from streams.group_offsets import Committed, GroupOffsets
from streams.wire import Alert, Severity

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 300.0
NOWHERE = -2
"""The offset of what is sent without a place in the log: nothing is committed for it. (-1 stands
before an empty log's first record.)"""
DEAD_AFTER_S = 60.0
"""A target that has taken nothing for so long, though there is something, is told as dead."""

_LOG = structlog.get_logger(role="notify")


class Target(Protocol):
    """Somebody who is told. ``name`` holds no secret; ``beats_every_s`` is how often what stands
    has to be told again, None for never."""

    name: str
    severity: Severity
    beats_every_s: float | None

    def send(self, alert: Alert, before: Alert | None = None, /) -> None:
        """Send one record; ``before`` is what the target was told last of the same alert, while it
        stood. Raises NotDelivered or Refused."""

    def beat(self, standing: Iterable[Alert]) -> None:
        """Tell again what stands; raises NotDelivered or Refused."""

    def close(self) -> None:
        """Close the connections."""


class Delivery:
    """Sends records to a target, one after the other, until each is taken.

    ``offsets`` is where its position is kept, ``first_wait_s`` after which wait a record is sent
    again for the first time; each further wait is twice as long, up to ``longest_wait_s``.
    """

    def __init__(
        self,
        target: Target,
        offsets: GroupOffsets,
        first_wait_s: float = FIRST_WAIT_S,
        longest_wait_s: float = LONGEST_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self.sent = self.refused = 0
        self._offsets, self._clock = offsets, clock
        self._waits_s = (first_wait_s, longest_wait_s)
        committed = offsets.read(1).get(0)
        self.position: int | None = None if committed is None else committed.offset
        self._queue: deque[tuple[int, Alert | None]] = deque()
        self._standing: dict[str, Alert] = {}  # as the target was told
        self._open: set[str] = set()  # what it was told of, or will be, and not of the end
        self._failing_since_s: float | None = None
        self._beat_at_s = clock()
        self._failure: BaseException | None = None
        self._stop, self._news = threading.Event(), threading.Condition()
        self._thread = threading.Thread(target=self._work, name=target.name, daemon=True)

    def start(self) -> None:
        """Begin to send; what stands is told again at once, since nobody knows for how long this
        process was away."""
        if self._standing:
            self._beat_at_s = -math.inf
        self._thread.start()

    def put(self, offset: int, alert: Alert | None) -> None:
        """Queue the record at ``offset``; None for one that nobody is told of."""
        wanted = alert is not None and self._is_wanted(alert)
        with self._news:
            self._queue.append((offset, alert if wanted else None))
            self._news.notify()

    def was_told(self, alert: Alert) -> None:
        """Take that the target was told of a record before this process began."""
        if self._is_wanted(alert):
            self._note_told(alert)

    def check(self) -> None:
        """Raise the error that ended the thread, if one did."""
        if self._failure is not None:
            raise self._failure

    def figures(self) -> dict[str, float]:
        """Return its health: records waiting, taken, refused, and since when it takes nothing."""
        since_s = self._failing_since_s
        with self._news:
            waiting = sum(alert is not None for _, alert in self._queue)
        return {
            f"notify/{self.target.name}/waiting": waiting,
            f"notify/{self.target.name}/sent": self.sent,
            f"notify/{self.target.name}/refused": self.refused,
            f"notify/{self.target.name}/failing_s": (
                0.0 if since_s is None else self._clock() - since_s
            ),
        }

    def close(self) -> None:
        """Stop; what is not sent yet is sent by the next process."""
        self._stop.set()
        with self._news:
            self._news.notify()
        if self._thread.ident is not None:
            self._thread.join()
        self.target.close()
        self._offsets.close()

    def _is_wanted(self, alert: Alert) -> bool:
        """Return whether the target is told: it is severe enough, or one that it knows of."""
        if not (at_least(alert.severity, self.target.severity) or alert.key in self._open):
            return False
        if alert.state == "resolved":
            self._open.discard(alert.key)
        elif alert.key:
            self._open.add(alert.key)
        return True

    # The thread

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                self._turn()
        except Exception as error:
            self._failure = error  # check() raises it: a target must not fall silent

    def _turn(self) -> None:
        with self._news:
            if not self._queue and not self._stop.is_set():
                self._news.wait(self._idle_s())
            head = self._queue[0] if self._queue else None
        if head is None:
            self._beat_when_due()
            return
        offset, alert = head
        if alert is not None:
            before = self._standing.get(alert.key)
            if not self._is_taken(lambda: self.target.send(alert, before)):
                return  # it was stopped
            self._note_told(alert)
        with self._news:
            self._queue.popleft()
            is_last = not self._queue
        if offset != NOWHERE and (alert is not None or is_last):
            self._offsets.commit({0: Committed(offset + 1, "")})
            self.position = offset + 1

    def _note_told(self, alert: Alert) -> None:
        if alert.state == "resolved":
            self._standing.pop(alert.key, None)
        elif alert.key:
            self._standing[alert.key] = alert

    def _beat_when_due(self) -> None:
        every_s = self.target.beats_every_s
        if every_s is None or self._clock() - self._beat_at_s < every_s:
            return
        self._beat_at_s = self._clock()
        if not self._standing:
            return
        try:
            self.target.beat(list(self._standing.values()))
        except NotDelivered as why:  # tried again at the next: a record that comes goes first
            self._note_failure(f"{why}", every_s)
        except Refused as why:
            _LOG.error("what stands is refused", target=self.target.name, why=f"{why}")
        else:
            self._note_success()

    def _is_taken(self, send: Callable[[], None]) -> bool:
        """Send until it is taken or refused; return False where the process stops before."""
        wait_s, longest_s = self._waits_s
        while not self._stop.is_set():
            try:
                send()
            except Refused as why:
                self.refused += 1
                _LOG.error(
                    "an alert is refused and left out", target=self.target.name, why=f"{why}"
                )
            except NotDelivered as why:
                self._note_failure(f"{why}", max(wait_s, why.wait_s))
                self._stop.wait(max(wait_s, why.wait_s))
                wait_s = min(longest_s, 2 * wait_s)
                continue
            else:
                self.sent += 1
            self._note_success()
            return True
        return False

    def _note_failure(self, why: str, wait_s: float) -> None:
        now_s = self._clock()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        for_s = now_s - self._failing_since_s
        tell = _LOG.error if for_s >= DEAD_AFTER_S else _LOG.warning
        what = "a target is dead" if for_s >= DEAD_AFTER_S else "an alert was not taken"
        tell(what, target=self.target.name, why=why, for_s=round(for_s), again_in_s=wait_s)

    def _note_success(self) -> None:
        if self._failing_since_s is not None:
            for_s = round(self._clock() - self._failing_since_s)
            _LOG.info("a target takes alerts again", target=self.target.name, after_s=for_s)
        self._failing_since_s = None

    def _idle_s(self) -> float | None:
        every_s = self.target.beats_every_s
        if every_s is None:
            return None
        return max(0.0, self._beat_at_s + every_s - self._clock())


def group_of(pipeline: str, kind: str, url: str) -> str:
    """Return the consumer group of a target: by a digest, as the address may hold a secret."""
    return f"{pipeline}.notify-{hashlib.sha256(f'{kind} {url}'.encode()).hexdigest()[:12]}.v1"
