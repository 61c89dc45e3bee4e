"""Bubbles and what is in flight, of schedules whose times are known."""

import pytest

from training.communication import bubble
from training.lab.intervals import Interval, Work, bubble_of, in_flight, order_of, played

EVEN: dict[Work, float] = {"forward": 1.0, "backward": 2.0}


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("stages", "microbatches"), [(1, 3), (2, 2), (2, 8), (4, 4), (4, 12)])
def test_even_stages_wait_as_the_formula_says(
    schedule: str, stages: int, microbatches: int
) -> None:
    step = played(schedule, microbatches, [EVEN] * stages)
    assert len(step) == 2 * stages * microbatches
    assert bubble_of(step) == pytest.approx(bubble(stages, microbatches))


def test_gpipe_keeps_all_micro_batches_and_1f1b_as_many_as_stages_follow() -> None:
    assert in_flight(played("gpipe", 8, [EVEN] * 3)) == {0: 8, 1: 8, 2: 8}
    assert in_flight(played("1f1b", 8, [EVEN] * 3)) == {0: 3, 1: 2, 2: 1}


def test_a_slower_stage_makes_the_others_wait_longer() -> None:
    slow: dict[Work, float] = {"forward": 2.0, "backward": 4.0}
    assert bubble_of(played("1f1b", 8, [EVEN, slow])) > 0.2 > bubble(2, 8)


def test_a_stage_alternates_in_1f1b() -> None:
    assert order_of("1f1b", 0, 2, 3) == [
        ("forward", 0), ("forward", 1), ("backward", 0), ("forward", 2), ("backward", 1),
        ("backward", 2),
    ]  # fmt: skip


def test_the_bubble_of_measured_times() -> None:
    step = [
        Interval(0, 0, "forward", 0.0, 1.0),
        Interval(1, 0, "forward", 1.0, 2.0),
        Interval(1, 0, "backward", 2.0, 3.0),
        Interval(0, 0, "backward", 3.0, 4.0),
    ]
    assert bubble_of(step) == 0.5
    assert bubble_of([]) == 0.0
