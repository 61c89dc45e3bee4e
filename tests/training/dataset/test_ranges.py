"""The stretches of the log that a training reads."""

import pyarrow as pa
import pytest

from streams.errors import TrainingError
from tests.training.pipelines import PARTITIONS, STEP_MS, new_log, time_ms
from training.dataset.manifest import ReadRange
from training.dataset.ranges import find_ranges, newest_time_ms, trimmed

pytestmark = pytest.mark.broker


def test_ranges_begin_by_the_time_index_and_end_with_the_topic(bootstrap: str) -> None:
    log = new_log(bootstrap)
    log.fill(0, 100)
    features, labels = find_ranges(bootstrap, log.topics, PARTITIONS, time_ms(20))
    assert features.offsets == labels.offsets == {0: (10, 50), 1: (10, 50)}
    features, labels = find_ranges(bootstrap, log.topics, PARTITIONS, None)
    assert features.offsets == labels.offsets == {0: (0, 50), 1: (0, 50)}
    features, labels = find_ranges(bootstrap, log.topics, PARTITIONS, time_ms(1000))
    assert features.offsets == labels.offsets == {0: (50, 50), 1: (50, 50)}
    newest = newest_time_ms(bootstrap, log.topics, PARTITIONS)
    assert newest == time_ms(99) + STEP_MS // 2


def table(rows: list[tuple[int, int, int]], valid: list[bool] | None = None) -> pa.Table:
    columns = {
        "partition": pa.array([p for p, _, _ in rows], pa.int32()),
        "offset": pa.array([o for _, o, _ in rows], pa.int64()),
        "event_time_ms": pa.array([t for _, _, t in rows], pa.int64()),
    }
    if valid is not None:
        columns["valid"] = pa.array(valid)
    return pa.table(columns)


def test_trimmed_range_does_not_depend_on_what_came_later() -> None:
    rows = [(0, 4, 10), (0, 5, 99), (0, 6, 20), (1, 0, 99), (2, 7, 19)]
    later = [(0, 7, 20), (0, 8, 50), (1, 1, 70), (2, 8, 20)]
    wanted = ReadRange("t", {0: (4, 7), 1: (0, 1), 2: (7, 8), 3: (9, 9)})
    grown = ReadRange("t", {0: (4, 9), 1: (0, 2), 2: (7, 9), 3: (9, 9)})
    found = trimmed(wanted, [table(rows)], 20)
    assert found.offsets == {0: (4, 5), 1: (0, 0), 2: (7, 8), 3: (9, 9)}
    assert trimmed(grown, [table(rows[:2]), table(rows[2:] + later)], 20) == found


def test_one_record_with_a_wrong_clock_hides_nothing() -> None:
    rows = [(0, 0, 1), (0, 1, 10**15), (0, 2, 2)]
    assert trimmed(ReadRange("t", {0: (0, 3)}), [table(rows)], 20).offsets == {0: (0, 3)}


def test_an_unusable_label_does_not_hold_the_end() -> None:
    rows = [(0, 0, 1), (0, 1, 50), (0, 2, 0)]
    labels = table(rows, [True, True, False])
    assert trimmed(ReadRange("t", {0: (0, 3)}), [labels], 20).offsets == {0: (0, 1)}


def test_an_empty_log_has_nothing_to_learn_from(bootstrap: str) -> None:
    log = new_log(bootstrap)
    with pytest.raises(TrainingError, match="nothing to learn from"):
        newest_time_ms(bootstrap, log.topics, PARTITIONS)
