from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.monitoring.windows import StepSums, check_window, step_starts
from serving.performance.packing import pack, unpack
from streams.errors import DefinitionError

STEP = 1_000
RECORDS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 9_999), st.integers(-1000, 1000)), max_size=60
)


def _fill(sums: StepSums, records: list[tuple[str, int, int]]) -> None:
    for key in sorted({key for key, _, _ in records}):
        mine = [(t, v) for k, t, v in records if k == key]
        times = np.array([t for t, _ in mine], dtype=np.int64)
        sums.add(key, times, np.array([[1, v] for _, v in mine], dtype=np.int64))


def _content(sums: StepSums) -> list[tuple[str, int, list[int]]]:
    return [(key, start, total.tolist()) for key, start, total in sums.items()]


def test_a_step_begins_at_a_multiple_of_its_length() -> None:
    times = np.array([0, 999, 1_000, 86_400_001], dtype=np.int64)

    assert step_starts(times, STEP).tolist() == [0, 0, 1_000, 86_400_000]


@given(RECORDS, st.integers(0, 9), st.integers(1, 10))
def test_a_window_is_the_sum_of_what_lies_in_it(
    records: list[tuple[str, int, int]], first: int, steps: int
) -> None:
    sums = StepSums(STEP)
    _fill(sums, records)
    start, end = first * STEP, (first + steps) * STEP
    inside = [v for k, t, v in records if k == "a" and start <= t < end]

    found = sums.window("a", start, end)

    assert ([len(inside), sum(inside)] if inside else None) == (
        None if found is None else found.tolist()
    )


@given(RECORDS, st.randoms(use_true_random=False), st.integers(0, 60))
def test_order_cuts_and_merging_change_nothing(
    records: list[tuple[str, int, int]], random: Random, cut: int
) -> None:
    whole, left, right = StepSums(STEP), StepSums(STEP), StepSums(STEP)
    _fill(whole, records)
    shuffled = list(records)
    random.shuffle(shuffled)
    _fill(left, shuffled[:cut])
    _fill(right, shuffled[cut:])

    left.merge(right)

    assert _content(left) == _content(whole)


@given(RECORDS)
def test_a_snapshot_keeps_everything(records: list[tuple[str, int, int]]) -> None:
    sums = StepSums(STEP)
    _fill(sums, records)

    keys, arrays = pack(sums, "sums")

    assert _content(unpack(STEP, keys, arrays, "sums")) == _content(sums)


def test_old_steps_are_forgotten() -> None:
    sums = StepSums(STEP)
    _fill(sums, [("a", 500, 1), ("a", 1_500, 2), ("b", 700, 3)])

    sums.drop_before(1_000)

    assert sums.names() == ["a"]
    assert sums.window("a", 0, 10_000) is not None
    assert _content(sums) == [("a", 1_000, [1, 2])]


def test_a_window_that_is_no_whole_number_of_steps_is_refused() -> None:
    assert check_window(3 * STEP, STEP) == 3 * STEP
    with pytest.raises(DefinitionError, match="multiple of the pipeline's step"):
        check_window(1_500, STEP)
