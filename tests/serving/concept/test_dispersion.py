import json

import numpy as np
import pytest

from serving.concept.dispersion import LossDispersion

DAY = 4_096


def test_independent_losses_have_a_factor_of_about_one() -> None:
    rng = np.random.default_rng(0)
    measured = LossDispersion()
    assert (measured.factor, measured.known) == (1.0, False)
    for _ in range(20):
        measured.add(rng.exponential(size=DAY))
    assert measured.known
    assert 1.0 <= measured.factor < 1.5


def test_losses_in_clumps_have_the_clump_s_size_as_their_factor() -> None:
    rng = np.random.default_rng(1)
    measured = LossDispersion()
    for _ in range(9):
        measured.add(np.repeat(rng.exponential(size=DAY // 16), 16))
    assert measured.factor == pytest.approx(16, rel=0.25)


def test_days_that_differ_count_and_one_change_does_not() -> None:
    rng = np.random.default_rng(2)
    weekly, once = LossDispersion(), LossDispersion()
    for day in range(28):
        weekly.add(rng.normal(0.1 * (day % 7 > 4), 1.0, DAY))
        once.add(rng.normal(0.5 * (day > 13), 1.0, DAY))
    assert weekly.factor > 5
    assert once.factor < 2


def test_the_step_to_another_model_is_no_difference_of_days() -> None:
    rng = np.random.default_rng(3)
    parted, whole = LossDispersion(), LossDispersion()
    for day in range(24):
        losses = rng.normal(0.5 * (day // 2 % 2), 1.0, DAY)  # another model every second day
        if day % 2 == 0:
            parted.part()
            parted.part()  # twice is as once
        parted.add(losses)
        whole.add(losses)
    assert whole.factor > 50
    assert parted.factor < 3


def test_it_goes_on_from_what_was_written_down() -> None:
    rng = np.random.default_rng(4)
    measured, after = LossDispersion(), LossDispersion()
    for size in (DAY, 100, 1, 0, 5_000, 5_000, 5_000):
        measured.add(np.repeat(rng.exponential(size=size), 2)[:size])
    measured.part()
    after.load(json.loads(json.dumps(measured.to_json())))
    assert after.factor == measured.factor
    for each in (measured, after):
        each.add(np.arange(50.0))
    assert after.to_json() == measured.to_json()
