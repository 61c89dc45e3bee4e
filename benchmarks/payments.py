"""The log that all are measured on: card payments as JSON of 127 bytes, and what ours make of it.

``same`` keeps what the peers keep, a sum and a count per card over 5 minutes that move by one;
``rich`` keeps six features.
"""

from typing import Annotated

import msgspec
import numpy as np

from kappa import (
    Category,
    Count,
    Definition,
    EventStream,
    HourOfDay,
    LabelStream,
    Mean,
    Number,
    Pipeline,
    Sum,
    Value,
)
from streams.kafka_client import producer

PARTITIONS = 4
CARDS = 10_000
START_MS = 1_700_000_000_000
STEP_MS = 20  # the mean time between payments is half of it


class Payment(msgspec.Struct, frozen=True):
    """A card payment."""

    event_id: str
    card: str
    ts: int
    amount: Annotated[float, msgspec.Meta(ge=0)]
    country: str
    channel: str


class Verdict(msgspec.Struct, frozen=True):
    """Whether a payment was a fraud; no benchmark here reads one."""

    event_id: str
    card: str
    ts: int
    fraud: bool


EVENTS = EventStream(Payment, "event_id", "card", "ts", partitions=PARTITIONS)
LABELS = LabelStream(Verdict, "event_id", "card", "ts", target=Value("fraud"))
SAME = Definition(1, {"sum_5m": Sum(Value("amount"), "5m", "1m"), "count_5m": Count("5m", "1m")})
RICH = Definition(
    2,
    {
        "count_5m": Count("5m", "1m"),
        "sum_5m": Sum(Value("amount"), "5m", "1m"),
        "mean_5m": Mean(Value("amount"), "5m", "1m"),
        "amount": Number(Value("amount")),
        "hour": HourOfDay(),
        "channel": Category("channel"),
    },
)
same = Pipeline("bench", EVENTS, LABELS, SAME)
rich = Pipeline("bench", EVENTS, LABELS, RICH)


def values(
    first: int, n: int, cards: int, seed: int, step_ms: int = STEP_MS
) -> tuple[list[bytes], list[bytes], list[int]]:
    """Return keys, JSON values and event times of payments number ``first`` to ``first + n``.

    Payment i happens about i · ``step_ms`` / 2 after the start.
    """
    rng = np.random.default_rng((seed, first))
    of, amounts = rng.integers(0, cards, n).tolist(), rng.exponential(40, n).tolist()
    begins = START_MS + first * step_ms // 2
    times: list[int] = (begins + np.cumsum(rng.integers(0, step_ms, n))).tolist()
    keys = [b"c%07d" % card if cards > 100_000 else b"c%05d" % card for card in of]
    made = [
        b'{"event_id":"e%09d","card":"%b","amount":%.2f,"country":"DE","channel":"web","ts":%d}'
        % (number, key, amount, ts)
        for number, (key, amount, ts) in enumerate(zip(keys, amounts, times, strict=True), first)
    ]
    return keys, made, times


def fill(bootstrap: str, topic: str, n: int, cards: int = CARDS, seed: int = 7) -> None:
    """Append ``n`` payments to a topic."""
    client = producer(
        bootstrap, partitioner="murmur2_random", linger_ms=5, queue_buffering_max_messages=2 * n
    )
    for key, value, ts in zip(*values(0, n, cards, seed), strict=True):
        client.produce(topic, value, key, timestamp=ts)
    if client.flush(120):
        raise SystemExit(f"the broker did not take the payments for {topic}")
