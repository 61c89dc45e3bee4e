"""Sums per entity and period."""

import numpy as np

from serving.experiments.sums import MINUTE_MS, PERIODS, Course, Entities, Sums

DAY_MS = 86_400_000


def test_entities_are_numbered_and_grow() -> None:
    entities = Entities()
    assert entities.numbers_of(["a", "b", "a"]).tolist() == [0, 1, 0]
    many = [f"e{n}" for n in range(3_000)]
    numbers = entities.numbers_of(many)
    entities.see(numbers, np.arange(3_000))
    entities.see(numbers[:1], np.array([7]))
    assert len(entities) == 3_002
    assert entities.last_ms[[0, 2, 3001]].tolist() == [0, 7, 2_999]


def test_sums_leave_out_what_is_not_a_number() -> None:
    sums = Sums()
    sums.add(np.array([0, 5_000, 0]), np.array([1.0, 2.0, np.nan]))
    counts, totals = sums.of(6_000)
    assert (counts[0], totals[0], counts[5_000], totals[5_000]) == (1.0, 1.0, 1.0, 2.0)
    assert counts.sum() == 2.0


def test_the_course_is_the_same_in_any_order() -> None:
    draws = np.random.default_rng(1)
    times = 1_700_000_000_000 + draws.integers(0, 9 * DAY_MS, 4_000)
    numbers, values = draws.integers(0, 50, 4_000), draws.integers(0, 9, 4_000).astype(float)
    courses = []
    for order in (np.argsort(times), draws.permutation(4_000), np.argsort(-times)):
        course = Course()
        for part in np.array_split(order, 13):
            course.add(numbers[part], values[part], times[part])
        courses.append(course.cumulated(50))
    for other in courses[1:]:
        for one, another in zip(courses[0], other, strict=True):
            assert one[0] == another[0]
            assert one[1].tolist() == another[1].tolist()
            assert one[2].tolist() == another[2].tolist()
    ends = [end for end, _, _ in courses[0]]
    assert 8 <= len(ends) <= PERIODS
    assert len(set(np.diff(ends))) == 1
    middle = ends[5]
    assert courses[0][5][1].sum() == np.sum(times < middle)
    assert courses[0][-1][2].tolist() == np.bincount(numbers, values, 50).tolist()


def test_a_short_time_has_periods_of_a_minute() -> None:
    course = Course()
    course.add(np.array([0, 0]), np.ones(2), np.array([0, 3 * MINUTE_MS]))
    assert [end for end, _, _ in course.cumulated(1)] == [MINUTE_MS, 4 * MINUTE_MS]
    assert Course().cumulated(1) == []
