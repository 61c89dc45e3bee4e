"""Rides with a verdict that comes later: a definition with every aggregation, over two keys."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.aggregations import (
    Count,
    DecayedMean,
    DistinctCount,
    First,
    Last,
    Max,
    Mean,
    Min,
    Quantile,
    Rate,
    Std,
    Sum,
    TimeSinceLast,
    TopShare,
    Variance,
)
from features.definition import Category, Definition, Feature, Number, Ratio, Times
from features.engine.columns import EventColumns, EventDecoder
from features.engine.engine import FeatureEngine, Processed
from features.records import FeatureRows
from streams.batch import LogBatch
from streams.dead_letters import DeadLetter
from streams.expressions import Above, Below, Equals, OneOf, Value
from streams.stream import LabelStream
from tests.features.rides import RIDES, START_MS, Ride, log_of

PRICE, STOPS = Value("price"), Value("stops")
NORTH, DEAR = Equals("zone", "north"), Above("price", 2)


class Verdict(msgspec.Struct, frozen=True):
    ride: str
    rider: str
    known: int
    about: int
    fault: bool
    cost: float | None = None
    spot: str = ""


class Trip(Ride, frozen=True):
    spot: str = ""


TRIPS = replace(RIDES, type=Trip)
VERDICTS = LabelStream(Verdict, "ride", "rider", "known", Value("fault"), about="about", delay="8s")
SPOT_VERDICTS = replace(VERDICTS, entity="spot")
LONG: dict[str, Any] = {"over": "30s", "tile": "5s"}
KNOWN: dict[str, Any] = {**LONG, "on": "labels", "delay": "8s"}

EVERYTHING: dict[str, Feature] = {
    "count": Count("10s", "5s", where=NORTH | DEAR),
    "count_before": Count(**LONG, delay="7s"),
    "rate": Rate(**LONG, per="1m"),
    "sum": Sum(PRICE * STOPS, **LONG, where=OneOf("zone", ("north", "south"))),
    "sum_before": Sum(PRICE, **LONG, delay="20s"),
    "mean": Mean(PRICE, "60s", "20s", where=~NORTH),
    "mean_before": Mean(PRICE, "10s", "5s", delay="10s"),
    "variance": Variance(PRICE, **LONG),
    "std": Std(PRICE - STOPS, "21s", "7s"),
    "min": Min(PRICE, **LONG),
    "max": Max(PRICE, "10s", "5s", where=NORTH & DEAR),
    "first": First(PRICE, **LONG),
    "last": Last(PRICE, "60s", "20s", delay="3s"),
    "zones": DistinctCount("zone", **LONG, precision=4),
    "bikes": DistinctCount("bike", "60s", "20s", where=Below("price", 5)),
    "median": Quantile(PRICE, 0.5, **LONG, low=0.5, high=8),
    "tail": Quantile(PRICE, 0.9, "60s", "20s", low=0.1, high=50, accuracy=0.1),
    "share": TopShare("bike", **LONG, size=1),
    "shares": TopShare("bike", "60s", "20s", size=8),
    "since": TimeSinceLast(),
    "since_north": TimeSinceLast(where=NORTH),
    "faded": DecayedMean(PRICE, half_life="10s"),
    "faded_north": DecayedMean(STOPS, half_life="1m", where=NORTH),
    "faults": Count(**KNOWN, where=Equals("fault", True)),
    "fault_share": Mean(Value("fault"), "60s", "20s", on="labels", delay="10s"),
    "cost": Sum(Value("cost"), **KNOWN),
    "dearest": Max(Value("cost"), **KNOWN),
    "price": Number(PRICE),
    "zone": Category("zone"),
    "ratio": Ratio("rate", "mean"),
    "product": Times("max", "ratio"),
}
ONE_KEY = Definition(2, EVERYTHING, groups=("member",), forget="70s")

BY_SPOT: dict[str, Feature] = {
    "rides": Count(**LONG),
    "spot_rides": Count(**LONG, by="spot"),
    "spot_faults": Count("60s", "20s", by="spot", on="labels", delay="8s"),
    "spot_since": TimeSinceLast(by="spot"),
    "price": Number(PRICE),
    "ratio": Ratio("rides", "spot_rides"),
    "zone": Category("zone"),
    "stops_max": Max(STOPS, **LONG),
}
TWO_KEYS = Definition(3, BY_SPOT)


def verdict(n: int, about_s: float, **fields: Any) -> bytes:
    """Return the JSON of the verdict on ride ``n``, of ``about_s`` seconds after the start."""
    about = START_MS + round(about_s * 1000)
    label = {"ride": f"r{n}", "rider": "ann", "about": about, "known": about + 8000, **fields}
    return msgspec.json.encode({"fault": n % 2 == 0, **label})


class Rekeyed:
    """Decoder of a later stage, where a test hands over what came out of the one before.

    ``origins`` (n,) say which row of the earlier stage each record is.
    """

    def __init__(self, inner: EventDecoder, earlier: FeatureRows, origins: list[int]) -> None:
        self._inner = inner
        self._earlier = earlier
        self._origins = np.array(origins, dtype=np.int64)

    def decode(self, batch: LogBatch) -> tuple[EventColumns, list[DeadLetter]]:
        """Return the columns of records whose values are the events as they were."""
        columns, dead = self._inner.decode(batch)
        rows = self._earlier
        at = self._origins[(batch.offsets // 2)[columns.rows]]
        return (
            replace(
                columns,
                earlier=rows.numeric[at],
                origin_partitions=np.full(len(at), rows.partition, dtype=np.int64),
                origin_offsets=rows.source_offsets[at],
                label_offsets=None if rows.label_offsets is None else rows.label_offsets[at],
            ),
            dead,
        )


def stretches(n: int, cuts: list[int]) -> list[tuple[int, int]]:
    """Return the stretches of [0, n) between some places."""
    ends = sorted(cuts)
    return list(zip([0, *ends], [*ends, n], strict=True))


def run(
    engine: FeatureEngine,
    events: list[bytes | None],
    labels: list[bytes | None],
    seen: NDArray[np.int64],
    stretch: tuple[int, int],
    until: int,
) -> Processed:
    """Let the engine take a stretch of the events, and the labels up to offset ``until``."""
    first, end = stretch
    known = engine.label_offset // 2
    return engine.process(
        log_of(events[first:end], first),
        log_of(labels[known : until // 2], known),
        seen[first:end],
    )
