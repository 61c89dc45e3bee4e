"""The log that all are measured on: card payments as JSON of 127 bytes, and what ours make of it.

``same`` keeps what the peers keep, a sum and a count per card over 5 minutes that move by one;
``rich`` keeps six features. ``two`` is ``same`` in two partitions.
"""

from dataclasses import replace
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

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
FILL = 200_000  # payments that are made and sent at once
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


two = Pipeline("bench", replace(EVENTS, partitions=2), LABELS, SAME)


def cards_of(n: int, cards: int, seed: int) -> NDArray[np.int64]:
    """Return the numbers of the cards of ``n`` payments, at random."""
    return np.random.default_rng(seed).integers(0, cards, n)


def values(
    first: int,
    cards: NDArray[np.int64],
    step_ms: int = STEP_MS,
    width: int = 5,
    begins_ms: int | None = None,
) -> tuple[list[bytes], list[bytes], list[int]]:
    """Return keys, JSON values and event times of the payments from number ``first`` on.

    ``cards`` (n,) are the numbers of their cards, written with ``width`` digits. A payment comes
    ``step_ms`` / 2 after the one before, in the mean; the first at ``begins_ms``, by default when
    as many as there were before have passed.
    """
    rng, n = np.random.default_rng(first), len(cards)
    if begins_ms is None:
        begins_ms = START_MS + first * step_ms // 2
    times: list[int] = (begins_ms + np.cumsum(rng.integers(0, step_ms, n))).tolist()
    amounts = rng.exponential(40, n).tolist()
    keys = [b"c%0*d" % (width, card) for card in cards.tolist()]
    made = [
        b'{"event_id":"e%09d","card":"%b","amount":%.2f,"country":"DE","channel":"web","ts":%d}'
        % (number, key, amount, ts)
        for number, (key, amount, ts) in enumerate(zip(keys, amounts, times, strict=True), first)
    ]
    return keys, made, times


def fill(
    bootstrap: str, topic: str, cards: NDArray[np.int64], step_ms: int = STEP_MS, width: int = 5
) -> None:
    """Append payments to a topic, one for each of ``cards``."""
    client = producer(
        bootstrap, partitioner="murmur2_random", linger_ms=5, queue_buffering_max_messages=2_000_000
    )
    for first in range(0, len(cards), FILL):
        some = values(first, cards[first : first + FILL], step_ms, width)
        for key, value, ts in zip(*some, strict=True):
            client.produce(topic, value, key, timestamp=ts)
        if client.flush(120):
            raise SystemExit(f"the broker did not take the payments for {topic}")
