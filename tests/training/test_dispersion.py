import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from training.dispersion import Blocks, Dispersion, forward_differences, measured

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def _blocks(days: int, n: int, moving: float, seed: int) -> NDArray[np.int64]:
    """Return counts (days, 5) whose shares move from day to day."""
    rng = np.random.default_rng(seed)
    shares = np.exp(moving * rng.normal(size=(days, 5)))
    return rng.multinomial(n, shares / shares.sum(axis=1, keepdims=True))


def test_independent_events_have_a_factor_of_one() -> None:
    entry = measured(_blocks(100, 1_000, 0.0, 0))
    assert entry is not None
    factor, freedom, comparisons, rows = entry
    assert factor == pytest.approx(1, abs=0.15)
    assert freedom == pytest.approx(4, abs=1)
    assert (comparisons, rows) == (99, 1_000)


def test_each_statistic_is_that_of_the_block_against_all_before() -> None:
    blocks = _blocks(6, 500, 0.2, 1)
    statistics = (forward_differences(blocks.astype(float)) ** 2).sum(axis=1)
    for i, statistic in enumerate(statistics.tolist()):
        table = np.stack([blocks[: i + 1].sum(axis=0), blocks[i + 1]])
        assert statistic == pytest.approx(chi2_contingency(table, correction=False).statistic)


def test_shares_that_move_give_the_variance_of_their_mean() -> None:
    """With shares that move by τ², a block of n has φ = 1 + n·τ²-ish: it grows with n."""
    few, many = (measured(_blocks(300, n, 0.1, 2)) for n in (500, 5_000))
    assert few is not None
    assert many is not None
    assert (many[0] - 1) / (few[0] - 1) == pytest.approx(10, rel=0.25)


def test_a_single_way_of_moving_has_one_degree_of_freedom() -> None:
    rng = np.random.default_rng(3)
    up = rng.normal(size=300)[:, None] * np.array([1, 1, 0, -1, -1]) * 0.1
    shares = 0.2 * np.exp(up)
    blocks = rng.multinomial(5_000, shares / shares.sum(axis=1, keepdims=True))
    entry = measured(blocks)
    assert entry is not None
    assert entry[1] < 2
    few = [measured(blocks[i : i + 7]) for i in range(0, 294, 7)]
    assert np.mean([each[1] for each in few if each is not None]) < 2


def test_blocks_end_with_the_last_row_and_longer_ones_are_sums() -> None:
    days, n = 36, 2_000
    rng = np.random.default_rng(4)
    times = np.sort(rng.integers(0, days * DAY_MS, days * n))
    weekday = times // DAY_MS % 7
    bins = {"weekday": weekday, "noise": rng.integers(0, 3, len(times))}
    blocks = Blocks(int(times[0]), int(times[-1]))
    for part in np.array_split(np.arange(len(times)), 5):
        blocks.add(times[part], {k: v[part] for k, v in bins.items()}, {"weekday": 7, "noise": 3})
    found = blocks.dispersions()

    assert found["noise"].of_window(7 * DAY_MS, 7 * n).factor < 3
    assert found["weekday"].of_window(DAY_MS, n).factor > 100
    assert found["weekday"].of_window(7 * DAY_MS, 7 * n).factor < 3


def test_between_lengths_it_goes_straight_and_beyond_as_before_at_most_in_proportion() -> None:
    told = Dispersion((HOUR_MS, 4 * HOUR_MS), (2.0, 8.0), (3.0, 2.0), (50, 12), (100.0, 400.0))
    assert told.of_window(2 * HOUR_MS, 200).factor == pytest.approx(4)
    assert told.of_window(16 * HOUR_MS, 1_600).factor == pytest.approx(32)
    assert told.of_window(HOUR_MS // 2, 50).factor == pytest.approx(2)
    assert told.of_window(16 * HOUR_MS, 1_600).comparisons == 12
    steep = Dispersion((HOUR_MS, 2 * HOUR_MS), (2.0, 32.0), (3.0, 2.0), (9, 4), (1.0, 2.0))
    assert steep.of_window(4 * HOUR_MS, 4).factor == pytest.approx(64)


def test_a_window_with_few_events_has_more_noise_of_counting_and_less_of_moving() -> None:
    told = Dispersion((DAY_MS,), (11.0,), (3.0,), (30,), (1_000.0,))
    assert told.of_window(DAY_MS, 1_000).factor == pytest.approx(11)
    assert told.of_window(DAY_MS, 100).factor == pytest.approx(2)


def test_too_few_rows_or_blocks_say_nothing() -> None:
    assert measured(_blocks(3, 1_000, 0.0, 0)) is None
    assert measured(_blocks(30, 20, 0.0, 0)) is None
    assert measured(np.full((10, 1), 1_000)) is None
    assert Dispersion().of_window(DAY_MS, 100).comparisons == 0
    assert Dispersion.from_json(Dispersion().to_json()) == Dispersion()
