import numpy as np
import pytest

from serving.concept.history import MOST, LossHistory


def _filled(
    closings: int, each: int
) -> tuple[LossHistory, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    rng = np.random.default_rng(0)
    losses = rng.exponential(size=closings * each)
    history = LossHistory()
    for day in range(closings):
        part = slice(day * each, (day + 1) * each)
        index = np.arange(part.start, part.stop)
        history.add(losses[part], np.column_stack([10 * index, index % 3, index // 3]))
    return history, losses


def test_places_of_the_newest_closing_are_exact_and_older_ones_near() -> None:
    history, losses = _filled(5, 1_000)

    exact = history.place(4_321)
    assert (exact.time_ms, exact.partition, exact.offset) == (43_210, 4_321 % 3, 1_440)
    assert exact.before[0] == 4_321
    assert exact.before[1] == pytest.approx(losses[:4_321].sum())
    assert exact.before[2] == pytest.approx((losses[:4_321] ** 2).sum())
    near = history.place(1_234)
    assert 1_234 - 32 < near.before[0] <= 1_234
    assert near.time_ms == 10 * near.before[0]


def test_what_came_before_a_fall_can_be_left_out() -> None:
    history, losses = _filled(5, 1_000)

    n, total, squares = history.since(4_200)
    assert n == 800
    assert total == pytest.approx(losses[4_200:].sum())
    assert squares == pytest.approx((losses[4_200:] ** 2).sum())
    assert history.since(5_000) == (0, 0.0, 0.0)
    n, total, _ = history.place(4_500, since=4_200).before
    assert n == 300
    assert total == pytest.approx(losses[4_200:4_500].sum())
    assert history.place(4_500, since=4_900).before == (0, 0.0, 0.0)


def test_it_stays_small_however_many_losses_came() -> None:
    history, losses = _filled(40, 50_000)
    _, arrays = history.snapshot()
    assert len(arrays["places"]) <= MOST + 50_000
    assert history.n == len(losses)
    near = history.place(1_000_000)
    assert 1_000_000 - 64 * 2 < near.before[0] <= 1_000_000
    assert near.before[1] == pytest.approx(losses[: near.before[0]].sum())


def test_without_losses_there_is_nothing() -> None:
    assert LossHistory().since(0) == (0, 0.0, 0.0)
