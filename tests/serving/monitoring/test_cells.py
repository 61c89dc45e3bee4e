import numpy as np
import pytest

from serving.monitoring.cells import add_up, cells_of


@pytest.mark.parametrize("far", [0, 10**12], ids=["small ranges", "large ranges"])
def test_rows_of_equal_columns_share_a_cell(far: int) -> None:
    rng = np.random.default_rng(1)
    columns = [
        rng.integers(0, 5, 2_000),
        rng.integers(0, 7, 2_000) * max(1, far),
        np.full(2_000, 9),
    ]

    cells, first = cells_of(columns)

    stacked = np.stack(columns, axis=1)
    assert len(first) == len(np.unique(stacked, axis=0)) == 35
    assert np.array_equal(stacked[first][cells], stacked)


def test_sums_are_exact_where_floats_would_not_be() -> None:
    rows = np.array([[2**52 + 1, 3], [2**52 + 1, 4], [5, -1]] * 3, dtype=np.int64)
    totals = add_up(np.array([0, 0, 1] * 3), 2, rows)
    assert totals.tolist() == [[6 * (2**52 + 1), 21], [15, -3]]
