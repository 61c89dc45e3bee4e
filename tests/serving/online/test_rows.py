"""Encoded rows: found by their offsets while they are held."""

import numpy as np

from features.records import FeatureRows
from serving.online.rows import EncodedRows
from tests.serving.online.online_log import base_parts, sales


def rows(first: int, n: int, entities: int = 5) -> FeatureRows:
    numeric, kinds = sales(10_000)
    numbers = np.arange(first, first + n)
    return FeatureRows(
        0, [f"e{i}" for i in numbers], [f"s{i % entities}" for i in numbers.tolist()], numbers,
        numbers, numeric[first : first + n], [kinds[first : first + n]], [],
    )  # fmt: skip


def test_rows_are_found_by_offset_until_they_may_go() -> None:
    encoding = base_parts().encoding
    held = EncodedRows(encoding, 0, 100)
    for first in range(0, 6_000, 500):  # offsets leave out every second, as markers would
        offsets = 100 + 2 * np.arange(first, first + 500)
        held.append(rows(first, 500), offsets, int(offsets[-1]) + 1, max(0, 2 * first - 1_000))
    assert len(held) < 3_000
    wanted = np.array([100 + 2 * 5_800, 101 + 2 * 5_800, 100 + 2 * 5_999, 20_000, 100])
    found = held.find(wanted)
    assert (found >= 0).tolist() == [True, False, True, False, False]
    numeric, codes = held.inputs(found[[0, 2]], 0)
    expected = rows(5_800, 1), rows(5_999, 1)
    for i, one in enumerate(expected):
        np.testing.assert_array_equal(numeric[i], encoding.numeric_inputs(one.numeric)[0])
        np.testing.assert_array_equal(codes[i], encoding.codes(one.categories, 1)[0])


def test_histories_end_at_what_counts_as_held() -> None:
    encoding = base_parts().encoding
    held = EncodedRows(encoding, 3, 0)
    for first in range(0, 3_000, 250):
        held.append(rows(first, 250), np.arange(first, first + 250), first + 250, first - 100)
    encoded = encoding.numeric_inputs(rows(0, 3_000).numeric)
    found = held.find(np.array([2_900, 2_903]))
    numeric, _, lengths = held.inputs(found, 0)
    assert lengths.tolist() == [3, 3]
    np.testing.assert_array_equal(numeric[0], encoded[[2_890, 2_895, 2_900]])
    numeric, _, lengths = held.inputs(found, 2_895)
    assert lengths.tolist() == [2, 2]
    assert not numeric[0, 0].any()
    np.testing.assert_array_equal(numeric[0, 1:], encoded[[2_895, 2_900]])


def test_a_row_written_again_is_no_further_event() -> None:
    encoding = base_parts().encoding
    held = EncodedRows(encoding, 2, 0)
    held.append(rows(0, 5, entities=1), np.arange(5), 5, 0)
    held.append(rows(3, 4, entities=1), np.arange(5, 9), 9, 0)  # 3 and 4 once more
    encoded = encoding.numeric_inputs(rows(0, 7).numeric)
    numeric, _, lengths = held.inputs(held.find(np.array([7])), 0)
    assert lengths.tolist() == [2]
    np.testing.assert_array_equal(numeric[0], encoded[[4, 5]])
