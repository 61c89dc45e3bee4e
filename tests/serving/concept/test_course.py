"""The course of one version's losses, closing by closing."""

import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from serving.concept.course import LossCourse, Taken
from serving.concept.detector import Floats
from serving.concept.findings import rise_chance
from serving.concept.history import Ints

PER_DAY = 1_000


def _losses(share: float, n: int, rng: np.random.Generator) -> Floats:
    """Log losses of scores of .1 or so, of which ``share`` turned out positive."""
    scores = rng.beta(2, 18, n)
    return -np.log(np.where(rng.random(n) < share, scores, 1 - scores))


def _places(day: int, n: int) -> Ints:
    index = day * PER_DAY + np.arange(n)
    return np.column_stack([index * 10, index % 2, index // 2])


def _course(level: float = 0.01, closings: int = 3) -> LossCourse:
    return LossCourse("scan", level, minimum=500, closings=closings)


def _run(
    course: LossCourse, shares: Sequence[float | None], seed: int = 0, first: int = 0
) -> list[Taken | None]:
    """Take a day per share; None is a day without labels."""
    rng = np.random.default_rng(seed)
    told = []
    for day, share in enumerate(shares, first):
        losses = np.empty(0) if share is None else _losses(share, PER_DAY, rng)
        told.append(course.take(losses, _places(day, len(losses))))
    return told


def _there(taken: Taken | None) -> Taken:
    assert taken is not None
    return taken


def test_what_got_better_and_worse_again_is_compared_with_its_best() -> None:
    told = _run(_course(), [0.3] * 8 + [0.1] * 6 + [0.25] * 2)

    found = _there(told[14])
    assert found.begun
    better = np.mean(_losses(0.1, 100_000, np.random.default_rng(9)))
    assert found.before.mean == pytest.approx(better, rel=0.1)
    assert found.before.n == pytest.approx(6 * PER_DAY, rel=0.05)
    assert found.recent.mean > 1.5 * found.before.mean


def test_a_change_stands_while_no_labels_come_and_as_long_as_a_window_holds_any() -> None:
    course = _course()
    told = _run(course, [0.1] * 8 + [0.4, None, None, None, None, 0.4])

    begun, empty = _there(told[8]), _there(told[9])
    assert begun.begun
    assert not empty.begun
    assert empty.chance == begun.chance <= 0.01
    assert empty.recent == begun.recent
    assert told[10] is not None
    assert told[11] is None  # three days without a label: there is nothing to tell
    again = _there(told[13])
    assert again.change == begun.change
    assert again.fresh.n == PER_DAY
    assert rise_chance(again.before, again.fresh, again.dispersion) < 1e-6


def test_what_comes_since_the_alarm_is_told_of_one_window_alone() -> None:
    told = _run(_course(), [0.1] * 8 + [0.4] * 4)
    begun = _there(told[8])
    assert begun.recent.n + begun.before.n == 9 * PER_DAY
    assert _there(told[9]).recent.n == begun.recent.n + PER_DAY
    assert _there(told[10]).recent.n == begun.fresh.n + 2 * PER_DAY
    assert _there(told[11]).recent.n == 3 * PER_DAY


def test_a_new_model_knows_how_alike_its_world_is() -> None:
    rng = np.random.default_rng(2)
    days = np.clip(rng.normal(0.2, 0.05, 24), 0.05, 0.5).tolist()
    course = _course()
    _run(course, days[:12])
    assert course.dispersion > 5  # days differ by far more than a thousand losses let expect
    known = course.dispersion

    course.begin()
    told = _run(course, [0.5 * share for share in days[12:18]], seed=3, first=12)
    assert course.dispersion > 5
    assert all(each is None or each.change is None for each in told)
    fresh = _course()
    _run(fresh, [days[12]])
    assert fresh.dispersion < 2 < known


def test_losses_in_clumps_raise_no_alarm_on_the_first_day() -> None:
    rng = np.random.default_rng(6)
    for _ in range(20):
        clumped = np.repeat(_losses(0.2, 250, rng), 80)  # each loss eighty times
        taken = _course(level=0.05).take(clumped, _places(0, len(clumped)))
        assert taken is None


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_model_that_is_always_sure_has_no_variance_and_no_alarm(share: float) -> None:
    course = _course()
    for day in range(4):
        taken = course.take(np.full(PER_DAY, share), _places(day, PER_DAY))
        assert taken is None or (taken.change is None and taken.chance == 1.0)
    found = _there(
        course.take(np.r_[np.full(500, share), np.full(500, share + 1)], _places(4, 1_000))
    )
    assert found.begun
    assert found.before.n == pytest.approx(4_500, abs=32)


def test_it_goes_on_from_what_was_written_down() -> None:
    shares = [0.2, 0.1, 0.1, 0.1, 0.3, None, 0.3, 0.1, 0.1, 0.4]
    whole = _run(_course(), shares)
    for cut in (3, 5, 6, 9):
        before = _course()
        rng = np.random.default_rng(0)
        days = [np.empty(0) if s is None else _losses(s, PER_DAY, rng) for s in shares]
        told = [before.take(d, _places(day, len(d))) for day, d in enumerate(days[:cut])]
        content, arrays = before.snapshot()
        after = _course()
        after.load(json.loads(json.dumps(content)), {k: v.copy() for k, v in arrays.items()})
        told += [after.take(d, _places(day, len(d))) for day, d in enumerate(days[cut:], cut)]
        assert told == whole


def _alike(rng: np.random.Generator) -> Floats:
    return np.full(60, 0.2)


def _by_day(rng: np.random.Generator) -> Floats:
    """Days differ, and so do weekends."""
    return np.clip(0.2 + rng.normal(0, 0.02, 60) + 0.03 * (np.arange(60) % 7 > 4), 0.01, 0.99)


@pytest.mark.parametrize("world", [_alike, _by_day])
def test_without_a_change_alarms_are_as_rare_as_the_level(
    world: Callable[[np.random.Generator], Floats],
) -> None:
    alarms = closings = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        course = _course(level=0.02)
        told = _run(course, world(rng).tolist(), seed=seed)
        settled = told[15:]  # the difference between days is measured by then
        alarms += sum(each is not None and each.begun for each in settled)
        closings += len(settled)
    assert alarms <= 0.02 * closings + 3 * np.sqrt(0.02 * closings)
