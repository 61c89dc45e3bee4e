"""Windows beyond random logs: sharing of rings, memory, compiled once for every definition."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from features.aggregations import Count, Mean, Sum
from features.definition import Definition
from features.engine.cells import update_cells
from features.engine.columns import Wanted
from features.engine.engine import FeatureEngine, warm_up
from features.engine.tiles import update_tiles
from features.engine.window_plan import Summed, plan_windows
from features.engine.windows import WindowState
from streams.expressions import Value
from tests.features.rides import DEFINITION, FEATURES, RIDES, log_of, ride

STOPS, PRICE = Value("stops"), Value("price")


def test_windows_over_the_same_tile_and_expression_share_a_ring() -> None:
    windows: list[Summed] = [
        Count("1h", "5m"),
        Count("1d", "5m"),
        Sum(STOPS, "1h", "5m"),
        Mean(STOPS, "1h", "5m"),
        Mean(PRICE, "1d", "5m"),
        Count("1d", "1h"),
    ]
    plan = plan_windows(windows, Wanted([STOPS, PRICE], [], {STOPS}), lateness_ms=3_600_000)
    # events, sum of stops, sum and number of prices over 5 minutes; events over 1 hour
    assert sorted(plan.rings[:, 0].tolist()) == [0, 0, 0, 0, 1]
    # the longest window and the lateness, in tiles, and one more
    assert plan.tiles[:, 2].tolist() == [288 + 12 + 1, 24 + 1 + 1]
    assert len(plan.spans) == 3
    assert len(plan.scans) == 6


def test_memory_follows_the_tiles_in_use() -> None:
    plan = plan_windows([Sum(PRICE, "30d", "1h")], Wanted([PRICE], []), lateness_ms=0)
    state, n = WindowState(plan), 20_000
    times = np.full(n, 1_600_000_000_000, dtype=np.int64)
    slots = np.arange(n, dtype=np.int64)
    for hour in range(3):
        now = times + 3_600_000 * hour
        values = state.update(slots, now, now, np.zeros(n, dtype=np.bool_), np.ones((n, 1)))
        assert values[:, 0].tolist() == [float(hour)] * n
    arrays = state.snapshot(slots)
    assert arrays["cells"].shape == (3 * n,)
    assert state.nbytes < 300 * n  # 721 tiles of 16 bytes would be 11,536 per entity


def test_compiled_once_for_all_definitions() -> None:
    warm_up()
    for names in (["rides_30s"], ["price_30s", "since"], ["zone"], list(DEFINITION.features)):
        definition = Definition(1, {n: FEATURES[n] for n in names if n != "dearer"})
        engine = FeatureEngine(definition, RIDES)
        engine.process(log_of([ride(1, 0), b"junk", ride(2, 1), ride(2, 1)]))
        arrays = {name: array.copy() for name, array in engine.snapshot().items()}
        for array in arrays.values():
            array.flags.writeable = False  # as read from a file
        FeatureEngine.restore(definition, RIDES, arrays).process(log_of([ride(3, 1)]))
    loops: list[Any] = [update_tiles, update_cells]
    assert [len(loop.signatures) for loop in loops] == [1, 1]


@pytest.mark.parametrize("start_s", [0, -4_000_000_000])
def test_tiles_are_aligned_to_the_epoch_before_and_after_it(start_s: int) -> None:
    definition = Definition(1, {"n": Count("10s", "5s")})
    moments = [0, 4.999, 5, 9.999, 10]
    values: list[bytes | None] = [ride(i, start_s + at_s) for i, at_s in enumerate(moments)]
    rows = FeatureEngine(definition, RIDES).process(log_of(values)).rows
    assert rows.numeric[:, 0].tolist() == [0, 1, 2, 3, 2]


def test_sums_that_overflow_are_missing_in_rows_too() -> None:
    definition = Definition(1, {"spent": Sum(PRICE, "30s", "5s")})
    values: list[bytes | None] = [ride(i, i, price=1.7e308) for i in range(4)]
    rows = FeatureEngine(definition, RIDES).process(log_of(values)).rows
    assert np.array_equal(rows.numeric[:, 0], [0, 1.7e308, np.nan, np.nan], equal_nan=True)


def test_blocks_that_were_outgrown_are_used_again() -> None:
    plan = plan_windows([Sum(PRICE, "1h", "1s")], Wanted([PRICE], []), lateness_ms=0)
    state, n = WindowState(plan), 4600

    def take(slots: NDArray[np.int64], second: int, late: bool = False) -> None:
        times = np.full(len(slots), second * 1000, dtype=np.int64)
        state.update(slots, times, times, np.full(len(slots), late), np.ones((len(slots), 1)))

    old, new = np.arange(n, dtype=np.int64), np.arange(n, 2 * n, dtype=np.int64)
    take(new, 0, late=True)  # gives them slots, and no tiles
    for second in range(10):
        take(old, second)
    # n · (4 + 8 + 16) places of two values fit 2¹⁸, and n · 4 more would not
    before = state.nbytes
    for second in range(10, 14):
        take(new, second)
    assert state.nbytes == before
