import math
from itertools import pairwise

import pytest

from training.loop.schedule import dropout_seed, rate, step_seed


def test_one_cycle_rises_to_its_peak_and_falls() -> None:
    rates = [rate("one_cycle", step, 100) for step in range(101)]
    assert max(rates) == rates[20] == 1.0
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] < 0.01
    assert all(0 < rate("one_cycle", step, 1) <= 1 for step in (0, 1))


def test_cosine_falls_from_the_peak_by_half_a_period() -> None:
    rates = [rate("cosine", step, 100) for step in range(101)]
    assert rates[0] == 1.0
    assert all(later < earlier for earlier, later in pairwise(rates))
    assert rates[25] == pytest.approx(0.001 + 0.999 * (1 + math.sqrt(0.5)) / 2)
    assert rates[100] == rate("cosine", 150, 100) == pytest.approx(0.001)


def test_constant_stays() -> None:
    assert {rate("constant", step, 10) for step in range(11)} == {1.0}


def test_dropout_seeds_differ_between_shares_epochs_and_steps() -> None:
    seeds = {
        step_seed(dropout_seed(7, epoch, share), step)
        for epoch in range(4)
        for share in range(4)
        for step in range(50)
    }
    assert len(seeds) == 4 * 4 * 50
    assert all(0 <= seed < 1 << 63 for seed in seeds)
