"""Re-keyed records count once, by the position of their event."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from features.engine.origins import SeenOrigins

Record = tuple[int, int, int]  # origin partition, origin offset, event time

records = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(-5, 5)))


def admit(seen: SeenOrigins, taken: list[Record]) -> tuple[list[bool], list[int]]:
    partitions, offsets, times = (np.array(c, dtype=np.int64) for c in zip(*taken, strict=True))
    is_new, watermarks = seen.admit(partitions, offsets, times)
    return is_new.tolist(), watermarks.tolist()


@given(records, st.integers(0, 20))
def test_a_record_is_new_beyond_the_newest_of_its_partition(taken: list[Record], cut: int) -> None:
    newest: dict[int, int] = {}
    expected, watermarks, watermark = [], [], None
    for partition, offset, time in taken:
        is_new = offset > newest.get(partition, -1)
        if is_new:
            newest[partition] = offset
            watermark = time if watermark is None else max(watermark, time)
        expected.append(is_new)
        watermarks.append(watermark)
    seen, found = SeenOrigins(3), []
    for part in (taken[:cut], taken[cut:]):
        restored = SeenOrigins(3)
        restored.restore(**seen.snapshot())
        seen = restored
        if part:
            found += list(zip(*admit(seen, part), strict=True))
    assert found == list(zip(expected, watermarks, strict=True))
    assert seen.watermark_ms == watermark


def test_a_snapshot_of_another_number_of_partitions_is_refused() -> None:
    with pytest.raises(ValueError, match="origins"):
        SeenOrigins(3).restore(**SeenOrigins(4).snapshot())
