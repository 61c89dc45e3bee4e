import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.monitoring.first_offsets import FirstOffsets

STEP = 1_000


def _noted(times: list[int], partition: int = 0, first: int = 10) -> FirstOffsets:
    found = FirstOffsets(STEP)
    found.note(partition, np.array(times), first + np.arange(len(times)), None)
    return found


def test_a_step_begins_at_the_first_record_in_it() -> None:
    found = _noted([1_100, 900, 1_200, 2_000])
    found.note(1, np.array([1_500]), np.array([3]), None)

    assert found.of_step(1_000) == {0: 10, 1: 3}
    assert found.of_step(0) == {0: 11}
    assert found.earliest() == {0: 10, 1: 3}


@given(st.lists(st.integers(0, 9_999), max_size=40).map(sorted), st.integers(1, 9), st.data())
def test_what_comes_before_a_time_ends_at_the_same_place_however_far_reading_is(
    times: list[int], steps: int, data: st.DataObject
) -> None:
    end_ms = steps * STEP
    needed = sum(at < end_ms for at in times)
    read = data.draw(st.integers(needed, len(times)))

    assert _noted(times[:read]).before(end_ms, {0: 10 + read, 1: 7}) == {0: 10 + needed, 1: 7}


def test_what_is_over_is_neither_kept_nor_taken() -> None:
    found = _noted([100, 1_100, 2_100])
    found.forget(1_000)
    found.note(0, np.array([200, 3_000]), np.array([20, 21]), 1_000)

    assert found.of_step(0) == {}
    again = FirstOffsets(STEP)
    again.load(json.loads(json.dumps(found.to_json())))
    assert again.to_json() == found.to_json() == [[1_000, 0, 11], [2_000, 0, 12], [3_000, 0, 21]]
