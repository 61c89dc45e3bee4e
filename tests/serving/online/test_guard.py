"""How often the guard is wrong, how soon it is right, and what it makes of no number."""

import numpy as np

from serving.online.guard import Guard


def found_worse(mean: float, seed: int, n: int = 1_000) -> int | None:
    """Return after how many outcomes a mean difference is found, in mini-batches of 8."""
    drawn = np.random.default_rng(seed)
    guard = Guard(stretch=n, alpha=0.05)
    for i in range(0, n, 8):
        base = drawn.uniform(0, 1, 8)
        mine = base + mean + drawn.normal(0, 0.3, 8)
        if guard.judge(mine, base).worse:
            return i + 8
    return None


def test_equal_weights_are_seldom_found_worse_however_often_one_looks() -> None:
    alarms = sum(found_worse(0.0, seed) is not None for seed in range(300))
    assert alarms <= 15  # 5 % of them, looked at 62 times each


def test_worse_weights_are_found_soon() -> None:
    found = [found_worse(0.15, seed) for seed in range(30)]
    assert None not in found
    assert float(np.median([n for n in found if n is not None])) < 100


def test_a_stretch_stands_or_begins_anew() -> None:
    guard = Guard(stretch=64, alpha=0.05)
    same = np.zeros(16)
    assert [guard.judge(same, same).stood for _ in range(4)] == [False, False, False, True]
    assert len(guard.differences) == 0


def test_an_answer_that_is_no_number_is_worse_than_any() -> None:
    guard = Guard(stretch=64, alpha=0.05)
    assert guard.judge(np.array([0.1, np.nan]), np.array([9.0, 9.0])).worse
