"""What a health process could see, for tests."""

from collections.abc import Mapping
from typing import Any

from serving.health.broker import BrokerState
from serving.health.lag import Standing
from serving.health.observation import Observation
from streams.topics import Topics
from streams.wire import Hop, Vitals

T0 = 1_700_000_000_000
S = 1_000
MINUTE = 60 * S
TOPICS = Topics("p")
GOOD = BrokerState(True, 3.0, 1, 20, 0, 0, 80 << 30, 100 << 30)
AWAY = BrokerState(False)


def vitals(at_ms: int, worker: str = "monitor-a", **changes: Any) -> Vitals:
    """Return a report of a process that began at ``T0``."""
    fields: dict[str, Any] = {
        "worker": worker, "role": worker.partition("-")[0], "at_ms": at_ms, "began_ms": T0,
        "pid": 7, "cpu": 0.5, "memory_bytes": 100 << 20, "host": "a", "disk_free_bytes": 50 << 30,
    }  # fmt: skip
    return Vitals(**{**fields, **changes})


def hop(name: str, *counts: int) -> Hop:
    """Return a hop by the counts of its first bins."""
    return Hop(name, sum(counts), (*counts, *(0,) * (15 - len(counts))))


def seen(
    at_ms: int,
    *reports: Vitals,
    broker: BrokerState = GOOD,
    monitor: Mapping[int, tuple[int, int]] | None = None,
    dead: int = 0,
    read: int = 0,
) -> Observation:
    """Return what is seen: ``monitor`` is partition → (committed, end) of its predictions,
    ``dead`` are dead letters of events, of which ``read`` were read."""
    if not broker.answers:
        return Observation(at_ms, broker)
    predictions = {p: Standing(*place) for p, place in (monitor or {}).items()}
    standings = {
        "monitor": {TOPICS.predictions: predictions, TOPICS.commands: {0: Standing(0, at_ms)}},
        "features": {TOPICS.events: {0: Standing(read, read)}},
    }
    return Observation(at_ms, broker, standings, {TOPICS.events: dead}, reports)
