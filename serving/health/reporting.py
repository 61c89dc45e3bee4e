"""A thread in every process that says on ``P.health.v1`` how it is.

Nothing that goes wrong here may touch the process: a failure is logged, once while it lasts, and
the next report is tried at its time. Reports are not kept for later: while Kafka is away the newest
alone waits, for :data:`KEPT_MS` at most.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self

import msgspec
import structlog
from confluent_kafka import Producer

from serving.health.probing import STOPPED, Probe
from streams.kafka_client import producer
from streams.wire import Vitals

EVERY_S = 5.0
KEPT_MS = 4_000
LAST_WORD_S = 1.0

Figures = Callable[[], Mapping[str, float]]

_LOG = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


class Looks(Protocol):
    """What says how the process is: :class:`serving.health.probing.Probe`."""

    worker: str

    def look(self, figures: Mapping[str, float]) -> Vitals:
        """Return the vitals, with ``figures`` of the process's own."""
        ...


class Reporter:
    """Reports every ``every_s`` seconds; a context manager that starts and ends it.

    Args:
        bootstrap: the brokers; they need not answer.
        topic: the health topic.
        probe: looks at the process.
        figures: gives figures of the process's own, from the reporter's thread.
        every_s: how often.
        listen: is given each report too, in the same process (for ``/metrics``).
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        probe: Probe | Looks,
        figures: Figures = dict,
        *,
        every_s: float = EVERY_S,
        listen: Callable[[Vitals], None] | None = None,
    ) -> None:
        self._bootstrap, self._topic, self._probe = bootstrap, topic, probe
        self._figures, self._every_s, self._listen = figures, every_s, listen
        self._producer: Producer | None = None
        self._failing: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def __enter__(self) -> Self:
        """Begin to report."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say the last word, where the process ends in order, and end."""
        self._stop.set()
        self._thread.join(LAST_WORD_S)
        if not self._thread.is_alive():
            self.report({STOPPED: 1.0} if kind is None else {})
            if self._producer is not None:
                self._producer.flush(LAST_WORD_S)

    def report(self, further: Mapping[str, float] | None = None) -> None:
        """Say how it is; never raises."""
        try:
            vitals = self._probe.look({**self._figures(), **(further or {})})
            if self._listen is not None:
                self._listen(vitals)
            self._send(vitals)
        except Exception as error:  # whatever it is: the worker's work matters more
            said = f"{type(error).__name__}: {error}"
            if said != self._failing:
                _LOG.warning("vitals were not reported", why=said)
            self._failing = said
        else:
            self._failing = None

    def _run(self) -> None:
        while True:
            self.report()
            if self._stop.wait(self._every_s):
                return

    def _send(self, vitals: Vitals) -> None:
        if self._producer is None:
            # One that may lose a report: nothing of it is ever fatal.
            self._producer = producer(
                self._bootstrap, enable_idempotence=False, acks=1, message_timeout_ms=KEPT_MS,
                queue_buffering_max_messages=100, linger_ms=0, compression_type="none",
            )  # fmt: skip
        self._producer.poll(0)
        self._producer.produce(self._topic, _encode(vitals), vitals.worker.encode())
