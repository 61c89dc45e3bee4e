"""Card payments: say whether a payment is a fraud, from the customer's and the terminal's past.

Two entity keys and features made of verdicts that are known a week late. The payments are the
fraud detection handbook's, which are simulated: ``kappa demo -p examples.fraud --events FOLDER``
with the monthly Parquet files.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from examples.fraud_source import DELAY, read
from kappa import (
    Above,
    Count,
    DataDrift,
    DayOfWeek,
    Definition,
    EventStream,
    HourOfDay,
    LabelStream,
    Mean,
    Model,
    Number,
    Performance,
    Pipeline,
    Ratio,
    Training,
    Value,
)


class Payment(Struct, frozen=True):
    """A card is used at a terminal. Whether by its owner nobody knows yet."""

    payment: str
    customer: str
    terminal: str
    paid_at_ms: int
    amount: Annotated[float, Meta(ge=0)]


class Verdict(Struct, frozen=True):
    """A payment was a fraud (1), or nobody complained within a week (0)."""

    payment: str
    terminal: str
    paid_at_ms: int
    known_at_ms: int
    fraud: Literal[0, 1]


AMOUNT, IS_FRAUD = Value("amount"), Above("fraud", 0.5)

pipeline = Pipeline(
    name="fraud",
    events=EventStream(Payment, id="payment", entity="customer", event_time="paid_at_ms"),
    labels=LabelStream(
        Verdict,
        id="payment",
        entity="terminal",
        event_time="known_at_ms",
        target=IS_FRAUD,
        about="paid_at_ms",
        delay=DELAY,
    ),
    features=Definition(
        version=1,
        features={
            "amount": Number(AMOUNT),
            "hour": HourOfDay(),
            "weekday": DayOfWeek(),
            # What the customer does.
            "payments_1d": Count(over="24h", tile="1h"),
            "payments_7d": Count(over="7d", tile="6h"),
            "payments_30d": Count(over="30d", tile="1d"),
            "amount_1d": Mean(AMOUNT, over="24h", tile="1h"),
            "amount_7d": Mean(AMOUNT, over="7d", tile="6h"),
            "amount_30d": Mean(AMOUNT, over="30d", tile="1d"),
            "amount_to_usual": Ratio("amount", "amount_30d"),
            # What happens at the terminal; verdicts only once they are known.
            "terminal_1d": Count(over="24h", tile="1h", by="terminal"),
            "terminal_7d": Count(over="7d", tile="6h", by="terminal"),
            "terminal_30d": Count(over="30d", tile="1d", by="terminal"),
            "risk_1d": Mean(
                IS_FRAUD, over="24h", tile="1h", by="terminal", on="labels", delay=DELAY
            ),
            "risk_7d": Mean(
                IS_FRAUD, over="7d", tile="6h", by="terminal", on="labels", delay=DELAY
            ),
            "risk_30d": Mean(
                IS_FRAUD, over="30d", tile="1d", by="terminal", on="labels", delay=DELAY
            ),
        },
    ),
    model=Model(prior=0.008, epochs=4),
    training=Training(first_after="42d", every="14d", window="60d", cooldown="7d", validation=0.15),
    monitors=(
        DataDrift(window="7d", features=("amount", "hour", "weekday", "payments_1d")),
        Performance(window="14d", log_loss_ratio=1.75, calibration_gap=0.02, minimum=5_000),
    ),
    step="7d",
    read=read,
)
