"""Bike trips: say at the start of a trip whether it will last over a quarter of an hour.

Try it with ``kappa demo`` (made-up trips), or with the operator's own monthly files:
``kappa demo --events FOLDER``. To make your own pipeline, copy this file.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from examples.citibike_demo import generate
from examples.citibike_source import TIMEZONE, read
from kappa import (
    Above,
    Category,
    ConceptDrift,
    Count,
    DataDrift,
    DayOfWeek,
    Definition,
    Equals,
    EventStream,
    Fairness,
    HourOfDay,
    LabelStream,
    Mean,
    Model,
    Performance,
    Pipeline,
    PredictionDrift,
    TimeSinceLast,
    Training,
)


class TripStart(Struct, frozen=True):
    """A bike is taken from a station. Where it goes and for how long nobody knows yet."""

    trip_id: str
    station: str
    bike: str
    user_type: Literal["Subscriber", "Customer"]
    started_at_ms: int


class TripEnd(Struct, frozen=True):
    """The bike is back. ``station`` is the one where the trip began: it keys both streams."""

    trip_id: str
    station: str
    ended_at_ms: int
    duration_s: Annotated[float, Meta(ge=0)]


pipeline = Pipeline(
    name="citibike",
    events=EventStream(TripStart, id="trip_id", entity="station", event_time="started_at_ms"),
    labels=LabelStream(
        TripEnd,
        id="trip_id",
        entity="station",
        event_time="ended_at_ms",
        target=Above("duration_s", 900),
    ),
    features=Definition(
        version=1,
        features={
            "hour": HourOfDay(TIMEZONE),
            "weekday": DayOfWeek(TIMEZONE),
            "user_type": Category("user_type"),
            "station": Category("station"),
            "trips_1h": Count(over="1h", tile="5m"),
            "trips_24h": Count(over="24h", tile="1h"),
            "customers_24h": Mean(Equals("user_type", "Customer"), over="24h", tile="1h"),
            "customers_7d": Mean(Equals("user_type", "Customer"), over="7d", tile="6h"),
            "since_last": TimeSinceLast(),
        },
        groups=("user_type",),
    ),
    model=Model(prior=0.15),
    training=Training(first_after="14d", every="7d", window="60d", cooldown="3d", validation=0.1),
    # Whole weeks, since weekends differ. The long windows are left out of the drift check: they
    # change slowly, so a week of them says less than its number of events makes believe. A model
    # that went live on a Friday is judged by a weekend, whose log loss is 1.6 times that of a week.
    # Customers do ride longer than subscribers, so different shares of them are told a long trip;
    # what is told has to be as true for the one as for the other.
    monitors=(
        DataDrift(window="7d", features=("user_type", "hour", "station", "trips_1h")),
        PredictionDrift(window="7d"),
        ConceptDrift(window="7d"),
        Performance(window="7d", log_loss_ratio=1.75, calibration_gap=0.07, minimum=1_000),
        Fairness(window="14d", ratio=None, gap=None, calibration_gap=0.1),
    ),
    step="1d",
    timezone=TIMEZONE,
    read=read,
    generate=generate,
)
