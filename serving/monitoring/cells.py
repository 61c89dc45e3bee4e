"""Which rows of a batch belong together, and their sums: exact, and without sorting. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_EXACT = 2**53  # float64 adds up whole numbers below this without loss
_DENSE = 1 << 16


def cells_of(columns: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Number the distinct combinations of columns (n,): return each row's number (n,), and the
    first row of each (cells,). Without sorting where the columns' ranges are small."""
    n = len(columns[0])
    combined, size = np.zeros(n, np.int64), 1
    for column in columns:
        least, span = int(column.min()), int(column.max() - column.min()) + 1
        if span == 1:
            continue
        if size * span > max(_DENSE, 4 * n):
            combined = np.unique(combined, return_inverse=True)[1].astype(np.int64)
            column = np.unique(column, return_inverse=True)[1].astype(np.int64)
            size, span, least = int(combined.max()) + 1, int(column.max()) + 1, 0
        combined, size = combined * span + (column - least), size * span
    if size > max(_DENSE, 4 * n):
        _, first, numbers = np.unique(combined, return_index=True, return_inverse=True)
        return numbers.astype(np.int64), first.astype(np.int64)
    row = np.full(size, -1, np.int64)
    row[combined[::-1]] = np.arange(n - 1, -1, -1)  # the last one written is the first row
    used = np.flatnonzero(row >= 0)
    number = np.empty(size, np.int64)
    number[used] = np.arange(len(used))
    return number[combined], row[used]


def add_up(cells: Ints, count: int, rows: Ints) -> Ints:
    """Return the sums of rows (n, K) by cell (n,), shape (count, K), exactly."""
    most = int(np.abs(rows).max(initial=0))
    if most * len(rows) >= _EXACT and len(rows) > 1:
        half = len(rows) // 2
        return add_up(cells[:half], count, rows[:half]) + add_up(cells[half:], count, rows[half:])
    totals = np.empty((count, rows.shape[1]), np.int64)
    for i in range(rows.shape[1]):
        totals[:, i] = np.bincount(cells, rows[:, i], count)
    return totals
