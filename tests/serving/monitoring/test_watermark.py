import numpy as np

from serving.monitoring.watermark import Watermark

LATENESS, IDLE = 10, 1_000
NOBODY: dict[str, set[int]] = {"events": set(), "labels": set()}
ALL: dict[str, set[int]] = {"events": {0, 1}, "labels": {0, 1}}


def _watermark(**newest: tuple[int, ...]) -> Watermark:
    watermark = Watermark(("events", "labels"), 2, LATENESS, IDLE)
    for source, times in newest.items():
        for partition, at in enumerate(times):
            watermark.note(source, partition, np.array([at - 5, at], dtype=np.int64))
    return watermark


def test_it_is_the_slowest_partition_of_all_inputs() -> None:
    watermark = _watermark(events=(5_000, 4_200), labels=(4_500, 4_100))

    assert watermark.value_ms(NOBODY) == 4_100 - LATENESS
    assert watermark.value_ms(ALL) == 4_100 - LATENESS


def test_nothing_is_known_before_every_partition_was_heard_or_is_at_its_end() -> None:
    watermark = _watermark(events=(5_000, 4_000), labels=(4_500,))

    assert watermark.value_ms(NOBODY) is None
    assert watermark.value_ms({"events": set(), "labels": {1}}) == 4_000 - LATENESS


def test_without_the_pace_setter_nothing_is_known() -> None:
    assert _watermark(labels=(4_500, 4_500)).value_ms(ALL) is None


def test_an_idle_partition_holds_back_only_until_its_end() -> None:
    watermark = _watermark(events=(5_000, 5_000), labels=(100, 5_000))

    assert watermark.value_ms(NOBODY) == 100 - LATENESS
    assert watermark.value_ms(ALL) == 5_000 - LATENESS


def test_it_never_goes_back() -> None:
    watermark = _watermark(events=(5_000, 5_000), labels=(5_000, 5_000))
    watermark.note("events", 0, np.array([100], dtype=np.int64))

    assert watermark.value_ms(ALL) == 5_000 - LATENESS


def test_saved_and_loaded_it_is_the_same() -> None:
    watermark, again = _watermark(events=(5_000, 4_000), labels=(3_000, 4_000)), _watermark()
    again.load(watermark.to_json())

    assert again.value_ms(NOBODY) == watermark.value_ms(NOBODY) == 3_000 - LATENESS
