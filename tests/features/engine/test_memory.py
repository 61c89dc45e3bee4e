"""Memory stays within its formula, growing and shrinking, and entities that are over leave it."""

from typing import Any

import numpy as np
import pytest

from features.aggregations import (
    Count,
    DecayedMean,
    DistinctCount,
    First,
    Mean,
    Quantile,
    Sum,
    TimeSinceLast,
    TopShare,
    Variance,
)
from features.definition import Definition, Feature
from features.engine.engine import FeatureEngine
from features.engine.memory import memory_estimate
from streams.expressions import Value
from tests.features.rides import RIDES, log_of, ride
from tests.features.verdicts import KNOWN, VERDICTS, verdict

PRICE = Value("price")
DEFINITIONS: dict[str, dict[str, Feature]] = {
    "sums": {
        "count": Count("60s", "5s"),
        "mean": Mean(PRICE, "60s", "5s"),
        "long": Sum(PRICE, "10m", "1m"),
    },
    "sketches": {
        "distinct": DistinctCount("zone", "60s", "5s"),
        "median": Quantile(PRICE, 0.5, "60s", "5s", low=0.1, high=100),
        "share": TopShare("bike", "60s", "20s"),
        "variance": Variance(PRICE, "60s", "20s"),
        "first": First(PRICE, "5m", "10s"),
    },
    "memories": {
        "since": TimeSinceLast(),
        "faded": DecayedMean(PRICE, "1m"),
        "count": Count("60s", "5s"),
    },
    "labels": {"faults": Count(**KNOWN), "mean": Mean(Value("fault"), **KNOWN)},
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_memory_stays_within_the_formula_growing_and_shrinking(name: str) -> None:
    definition = Definition(1, DEFINITIONS[name], forget="10m")
    engine = FeatureEngine(definition, RIDES, VERDICTS)
    batch, second, offset = 1000, 0.0, 0
    sizes = []

    def take(entities: int, tiles: int) -> None:
        """Give each of some entities an event (and a label) in each of some tiles of 5 s."""
        nonlocal second, offset
        for _ in range(tiles):
            second += 5
            for first in range(0, entities, batch):
                numbers = range(first, min(entities, first + batch))
                names = [f"{second:.0f}/{n}" if tiles == 1 else f"rider {n}" for n in numbers]
                fields: list[dict[str, Any]] = [{"rider": rider} for rider in names]
                values = [
                    ride(offset + i, second, price=1.0 + i % 50, zone="north", bike=i, **f)
                    for i, f in enumerate(fields)
                ]
                verdicts = [verdict(offset + i, second, **f) for i, f in enumerate(fields)]
                engine.process(log_of([*values], offset), log_of([*verdicts], offset))
                offset += len(values)
        most = memory_estimate(definition, RIDES, VERDICTS, engine.entities, 14)
        assert engine.nbytes <= most
        assert tiles < 14 or engine.nbytes >= most / 6
        sizes.append(engine.nbytes)

    for entities in (1000, 5000):
        take(entities, tiles=14)
    for _ in range(12):  # others, each once; most of the time passes in silence
        second += 300
        take(2000, tiles=1)
    assert engine.entities <= 3 * 4096
    second += 3600
    take(2000, tiles=1)
    take(5000, tiles=2)
    assert min(sizes[3:]) < sizes[1] / 2


def test_entities_without_forgetting_stay_for_good() -> None:
    definition = Definition(1, {"since": TimeSinceLast()})
    engine = FeatureEngine(definition, RIDES)
    for part in range(10):
        values: list[bytes | None] = [
            ride(i, 1000 * part, rider=f"{i}") for i in range(1000 * part, 1000 * part + 1000)
        ]
        engine.process(log_of(values, 1000 * part))
    assert engine.entities == 10_000


def test_an_entity_is_forgotten_by_event_time_not_when_memory_is_swept() -> None:
    definition = Definition(1, {"since": TimeSinceLast()}, forget="60s")
    engine = FeatureEngine(definition, RIDES)
    values: list[bytes | None] = [ride(0, 0), ride(1, 60), ride(2, 120.001), ride(3, 121)]
    since = engine.process(log_of(values)).rows.numeric[:, 0]
    assert np.array_equal(since, [np.nan, 60.0, np.nan, 0.999], equal_nan=True)
