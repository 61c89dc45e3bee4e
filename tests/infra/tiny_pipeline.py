"""A pipeline small enough to be trained several times in a test, with a drift and bad records."""

from collections.abc import Iterator
from typing import Annotated

import msgspec
import numpy as np

from kappa import (
    Category,
    Count,
    DataDrift,
    Definition,
    EventStream,
    HourOfDay,
    LabelStream,
    Mean,
    Model,
    Number,
    Performance,
    Pipeline,
    Tabular,
    Training,
    Value,
)
from streams.recording import Recording

DAY_MS = 86_400_000
START_MS = 18_000 * DAY_MS
DAYS = 12
DRIFT_DAY = 8
PER_DAY = 400
BAD_RECORDS = 3
"""Broken JSON, a value that breaks its type's rule, an id that comes twice."""
LABELS_WITHOUT_EVENT = 1


class Order(msgspec.Struct):
    """An order is placed."""

    order_id: str
    shop: str
    channel: str
    amount: Annotated[float, msgspec.Meta(ge=0)]
    placed_at_ms: int


class Returned(msgspec.Struct):
    """Whether the order came back is known six hours later."""

    order_id: str
    shop: str
    known_at_ms: int
    returned: bool


def generate(seed: int, scale: float) -> Iterator[Recording]:
    """Yield orders by day; from ``DRIFT_DAY`` on amounts double and far more come back."""
    random = np.random.default_rng(seed)
    per_day = int(PER_DAY * scale)
    waiting: list[tuple[int, int, bytes, bytes]] = []
    for day in range(DAYS + 1):
        begin = START_MS + day * DAY_MS
        orders = per_day if day < DAYS else 0
        times: list[int] = np.sort(random.integers(begin, begin + DAY_MS, orders)).tolist()
        for number, at in enumerate(times):
            drifted = day >= DRIFT_DAY
            amount = float(random.gamma(2.0, 40.0 if drifted else 20.0))
            come_back = bool(random.random() < (0.6 if drifted else 0.1) + min(amount, 60) / 200)
            order = Order(f"o{day}-{number}", f"s{number % 3}", "web", amount, at)
            known = at + DAY_MS // 4
            label = Returned(order.order_id, order.shop, known, come_back)
            key = order.shop.encode()
            waiting.append((at, 0, key, msgspec.json.encode(order)))
            waiting.append((known, 1, key, msgspec.json.encode(label)))
            if day == 2 and number == 10:
                waiting.append((at, 0, key, msgspec.json.encode(order)))
                waiting.append((at, 0, key, b'{"order_id": "torn'))
                negative = msgspec.structs.replace(order, order_id="negative", amount=-1.0)
                waiting.append((at, 0, key, msgspec.json.encode(negative)))
                stray = msgspec.structs.replace(label, order_id="nobody")
                waiting.append((known, 1, key, msgspec.json.encode(stray)))
        waiting.sort(key=lambda record: record[:2])
        due = [record for record in waiting if record[0] < begin + DAY_MS or day == DAYS]
        waiting = waiting[len(due) :]
        yield Recording(
            np.array([r[0] for r in due], dtype=np.int64),
            np.array([r[1] == 1 for r in due], dtype=np.bool_),
            [r[2] for r in due],
            [r[3] for r in due],
        )


pipeline = Pipeline(
    name="tiny",
    events=EventStream(
        Order, id="order_id", entity="shop", event_time="placed_at_ms", partitions=2
    ),
    labels=LabelStream(
        Returned, id="order_id", entity="shop", event_time="known_at_ms", target=Value("returned")
    ),
    features=Definition(
        version=1,
        features={
            "hour": HourOfDay(),
            "shop": Category("shop"),
            "amount": Number(Value("amount")),
            "orders_1d": Count(over="1d", tile="1h"),
            "amount_1d": Mean(Value("amount"), over="1d", tile="1h"),
        },
        groups=("channel",),
    ),
    model=Model(prior=0.2, network=Tabular(hidden=(16,)), epochs=3, batch=128),
    training=Training(
        first_after="5d", every="4d", window="8d", cooldown="1d", minimum_examples=200
    ),
    monitors=(DataDrift(window="2d", minimum=200), Performance(window="1d", minimum=100)),
    generate=generate,
)
