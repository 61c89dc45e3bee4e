"""Rows of the online store come back as they were, whatever is missing or torn."""

import numpy as np
import pytest

from features.store.rows import RowLayout
from streams.errors import StateError

LAYOUT = RowLayout(("a", "b"), ("s", "t"), ("String",) * 2)


@pytest.mark.parametrize("missing", [(), (0,), (1,), (0, 1)])
@pytest.mark.parametrize("texts", [("x", "y" * 200), ("", "é"), ("", "")])
def test_a_row_is_read_as_it_was_written(missing: tuple[int, ...], texts: tuple[str, str]) -> None:
    numbers = np.array([[-0.0, 1e300]])
    numbers[0, list(missing)] = np.nan
    (row,) = LAYOUT.encode(numbers, [[text] for text in texts])
    found = LAYOUT.decode(row)
    assert found is not None
    assert [found["s"], found["t"]] == [text or None for text in texts]
    assert [found["a"], found["b"]] == [None if v != v else v for v in numbers[0].tolist()]


def test_rows_of_no_numbers_and_of_another_layout() -> None:
    layout = RowLayout((), ("s",), ("String",))
    (row,) = layout.encode(np.empty((1, 0)), [["x"]])
    assert layout.decode(row) == {"s": "x"}
    assert LAYOUT.decode(row) is None


def test_a_torn_row_is_told() -> None:
    (row,) = LAYOUT.encode(np.array([[1.0, 2.0]]), [["x"], ["y"]])
    for end in range(5, len(row)):
        with pytest.raises(StateError, match="damaged"):
            LAYOUT.decode(row[:end])
