"""An open loop: events leave at stated moments, whatever comes back, and each answer is timed.

A latency is counted from the moment at which the event *should* have left, so a slow sender or a
stall shows in all that it held up.
"""

from __future__ import annotations

import re
import threading
import time

import numpy as np
from confluent_kafka import TopicPartition
from numpy.typing import NDArray

from benchmarks import payments
from streams.kafka_client import consumer, producer

CARDS = 2_000
_ID = re.compile(rb'"event_id":"e(\d+)"')
_LATE_S = 10.0
"""So long is waited for the last answers."""


class Arrivals:
    """Notes when each event's answer is read, by a read_committed reader in a thread of its own."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, events: int) -> None:
        self.at_s = np.full(events, np.nan)
        self._stop = threading.Event()
        self._reader = consumer(bootstrap)
        self._reader.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
        self._thread = threading.Thread(target=self._read, name=f"reads {topic}", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            messages = self._reader.consume(1, 0.1)
            if messages:
                messages += self._reader.consume(1_000, 0.0)
            now_s = time.perf_counter()
            for message in messages:
                found = None if message.error() else _ID.search(message.value() or b"")
                if found is not None:
                    number = int(found[1])
                    if np.isnan(self.at_s[number]):
                        self.at_s[number] = now_s

    def wait(self, first: int, end: int, timeout_s: float = _LATE_S) -> bool:
        """Wait until all of the events [first, end) have an answer; False where it takes longer."""
        until_s = time.monotonic() + timeout_s
        while np.isnan(self.at_s[first:end]).any():
            if time.monotonic() > until_s:
                return False
            time.sleep(0.01)
        return True

    def close(self) -> None:
        """End the reading."""
        self._stop.set()
        self._thread.join(10)
        self._reader.close()


class Sender:
    """Sends payments at a rate; event number i has the id e<i>."""

    def __init__(self, bootstrap: str, topic: str, events: int, seed: int = 7) -> None:
        keys, values, times = payments.values(0, payments.cards_of(events, CARDS, seed))
        self._records = list(zip(keys, values, times, strict=True))
        self._topic = topic
        self._producer = producer(bootstrap, partitioner="murmur2_random", linger_ms=0)

    def send(self, first: int, end: int, per_s: float) -> NDArray[np.float64]:
        """Send the events [first, end); return when each should have left (perf_counter)."""
        begun_s = time.perf_counter() + 0.01
        due_s = begun_s + np.arange(end - first) / per_s
        for (key, value, ts), at_s in zip(self._records[first:end], due_s.tolist(), strict=True):
            while (left_s := at_s - time.perf_counter()) > 0:
                time.sleep(min(left_s, 0.001))
            self._producer.produce(self._topic, value, key, timestamp=ts)
            self._producer.poll(0)
        if self._producer.flush(30):
            raise SystemExit(f"the broker did not take the events for {self._topic}")
        return due_s


def percentiles(seconds: NDArray[np.float64]) -> dict[str, float]:
    """Return p50, p90, p99 and p99.9 of n latencies, milliseconds."""
    at = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9}
    return {name: round(float(np.percentile(seconds, q)) * 1000, 2) for name, q in at.items()}
