"""The order of two logs: by time as one would do it by hand, and as the records tell."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.processing.interleaving import Interleaving, seen_by_time

TIMES = st.lists(st.integers(0, 30), max_size=30)


def by_hand(events_ms: list[int], labels_ms: list[int]) -> list[int]:
    """Return how many labels stand before each event, one after the other."""
    seen, passed = [], 0
    for event_ms in events_ms:
        while passed < len(labels_ms) and labels_ms[passed] <= event_ms:
            passed += 1
        seen.append(passed)
    return seen


@given(TIMES, TIMES, st.integers(0, 30))
def test_by_time_wherever_the_batches_are_cut(
    events_ms: list[int], labels_ms: list[int], at: int
) -> None:
    offsets = 10 + 2 * np.arange(len(labels_ms), dtype=np.int64)  # logs have gaps
    ends = [7, *(offsets + 1).tolist()]
    wanted = [ends[passed] for passed in by_hand(events_ms, labels_ms)]
    made: list[int] = []
    for part in (events_ms[:at], events_ms[at:]):
        first = made[-1] if made else 7
        left = offsets >= first
        seen = seen_by_time(
            np.array(part, np.int64), np.array(labels_ms, np.int64)[left], offsets[left], first
        )
        made += seen.tolist()
    assert made == wanted


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.data())
def test_records_tell_the_order_however_often_and_in_whatever_order_they_are_read(
    steps: list[int], data: st.DataObject
) -> None:
    offsets = 3 * np.arange(len(steps), dtype=np.int64)
    seen = np.cumsum(steps)
    cuts = data.draw(
        st.lists(st.tuples(st.integers(0, len(steps)), st.integers(0, len(steps))), max_size=6)
    )
    stretches = [(offsets[a:b], seen[a:b]) for a, b in cuts] + [(offsets, seen)]
    told = Interleaving.of_records(data.draw(st.permutations(stretches)))
    assert told.end == offsets[-1] + 1
    assert told.at(offsets).tolist() == seen.tolist()
    assert told.at(offsets + 1).tolist() == seen.tolist()  # of an event that has no record


def test_nothing_told() -> None:
    told = Interleaving.of_records([])
    assert told.end == 0
    assert told.at(np.array([4])).tolist() == [0]
