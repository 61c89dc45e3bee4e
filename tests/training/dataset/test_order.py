import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.dataset.order import EpochOrder


def rows_of(order: EpochOrder) -> list[NDArray[np.int64]]:
    return [order.batch(step) for step in range(order.steps)]


@given(
    examples=st.integers(1, 500),
    global_rows=st.integers(1, 120),
    block_rows=st.integers(1, 40),
    window_blocks=st.integers(1, 8),
    whole=st.booleans(),
)
def test_each_row_comes_once_in_batches_of_equal_size(
    examples: int, global_rows: int, block_rows: int, window_blocks: int, whole: bool
) -> None:
    order = EpochOrder(
        examples, global_rows, 3, 1,
        whole_up_to=1000 if whole else 0, block_rows=block_rows, window_blocks=window_blocks,
    )  # fmt: skip
    batches = rows_of(order)
    assert sorted(np.concatenate(batches).tolist()) == list(range(examples))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= global_rows


@pytest.mark.parametrize("whole_up_to", [0, 10_000])
def test_any_batch_can_be_made_by_itself(whole_up_to: int) -> None:
    def order(seed: int = 7, epoch: int = 2) -> EpochOrder:
        return EpochOrder(5_000, 64, seed, epoch, whole_up_to, block_rows=32, window_blocks=8)

    batches = rows_of(order())
    for step in (0, 41, 3, order().steps - 1):
        np.testing.assert_array_equal(order().batch(step), batches[step])
    assert not np.array_equal(order(epoch=3).batch(0), batches[0])
    assert not np.array_equal(order(seed=8).batch(0), batches[0])
    for step in (-1, order().steps):
        with pytest.raises(IndexError):
            order().batch(step)


def test_a_large_slice_is_read_window_after_window() -> None:
    order = EpochOrder(100_000, 500, 7, 0, whole_up_to=0, block_rows=100, window_blocks=50)
    blocks = [set((batch // 100).tolist()) for batch in rows_of(order)]
    assert all(len(touched) <= 100 for touched in blocks)  # of 1,000; a batch lies in two windows
    assert len(set.union(*blocks[:10])) == 50  # ten batches: the first window
    mixed = order.batch(0)
    assert len(np.unique(mixed // 100)) > 40  # and within it, rows of almost all its blocks
    assert abs(np.corrcoef(np.arange(500), mixed)[0, 1]) < 0.2
