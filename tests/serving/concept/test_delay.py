import json

import numpy as np
import pytest

from serving.concept.delay import CELLS, LabelDelay, delay_cells, delay_quantile

HOUR = 3_600_000
DAY = 24 * HOUR


@pytest.mark.parametrize("seconds", [2, 90, 3_600, 86_400, 7 * 86_400])
def test_a_quantile_is_right_to_a_tenth(seconds: int) -> None:
    delays = np.random.default_rng(0).exponential(1_000 * seconds, 20_000).astype(np.int64)
    counts = np.bincount(delay_cells(delays), minlength=CELLS)
    for share in (0.5, 0.9):
        true = max(1.0, float(np.quantile(delays, share)) / 1_000)
        assert true * 0.97 < delay_quantile(counts, share) < true * 1.12


def test_delays_out_of_all_bounds_have_a_cell() -> None:
    assert delay_cells(np.array([-5 * DAY, 0, 1, 10**15])).tolist() == [0, 0, 0, CELLS - 1]


def _days(delay: LabelDelay, days: range, late: int = 0) -> None:
    """A hundred answers a day, and their labels six hours later; ``late`` of them do not come."""
    for day in days:
        events = day * DAY + np.arange(100) * 600_000
        delay.add_answers(events)
        delay.add_matches(events[late:], events[late:] + 6 * HOUR)


def test_the_share_without_a_label_is_of_events_old_enough() -> None:
    delay = LabelDelay(DAY, 3 * DAY)
    for day in range(12):
        _days(delay, range(day, day + 1), late=0 if day < 9 else 60)
        end = (day + 1) * DAY
        delay.settle(end)
        found = delay.unlabelled(end, 6 * 3_600)
        delay.forget(end)
    assert found is not None
    share, n, usual = found
    assert n == 300
    assert share == pytest.approx((60 + 60) / 300)  # the last day is not old enough
    assert usual == 0.0


def test_labels_read_ahead_do_not_count_yet() -> None:
    events = np.arange(800) * DAY // 100
    labels = events + np.where(np.arange(800) % 4 == 0, 3 * DAY, HOUR)  # every fourth comes late
    told: list[list[object]] = []
    for ahead in (False, True):
        delay, said = LabelDelay(DAY, 2 * DAY), list[object]()
        for day in range(8):
            end = (day + 1) * DAY
            if ahead and day == 0:
                delay.add_matches(events, labels)
            elif not ahead:
                due = (labels >= end - DAY) & (labels < end)
                delay.add_matches(events[due], labels[due])
            delay.add_answers(events[day * 100 : day * 100 + 100])
            delay.settle(end)
            said.append((delay.unlabelled(end, 3_600), [x.tolist() for x in delay.delays(end)]))
            delay.forget(end)
        told.append(said)
    assert told[0] == told[1]
    assert told[0][-1][0][0] == pytest.approx(0.25, abs=0.01)  # type: ignore[index]


def test_it_goes_on_from_what_was_written_down() -> None:
    delay, after = LabelDelay(DAY, 2 * DAY), LabelDelay(DAY, 2 * DAY)
    _days(delay, range(4), late=10)
    delay.settle(2 * DAY)  # half of it has been closed
    delay.unlabelled(2 * DAY, 60)
    content, arrays = delay.snapshot()
    after.load(json.loads(json.dumps(content)), arrays)
    for each in (delay, after):
        each.settle(4 * DAY)
    assert after.unlabelled(4 * DAY, 60) == delay.unlabelled(4 * DAY, 60)
    assert after.snapshot()[0] == delay.snapshot()[0]


def test_it_keeps_five_windows_and_no_more() -> None:
    delay = LabelDelay(DAY, 2 * DAY)
    sizes = []
    for day in range(60):
        _days(delay, range(day, day + 1))
        delay.settle((day + 1) * DAY)
        delay.forget((day + 1) * DAY)
        content, arrays = delay.snapshot()
        sizes.append(len(json.dumps(content)) + sum(each.nbytes for each in arrays.values()))
    assert max(sizes[30:]) < 1.1 * sizes[20]
