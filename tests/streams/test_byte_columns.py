"""Byte strings in one buffer."""

import numpy as np
import pytest

from streams.byte_columns import NULL, ByteColumn


def items(column: ByteColumn) -> list[bytes | None]:
    """Return the strings of a column."""
    return [
        None if length == NULL else column.data[start : start + length]
        for start, length in zip(column.starts.tolist(), column.lengths.tolist(), strict=True)
    ]


@pytest.mark.parametrize(
    "wanted", [[], [b""], [b"a", b"", b"bcd"], [None, b"a", None, b"", b"bc"], [None, None]]
)
def test_a_column_holds_its_strings(wanted: list[bytes | None]) -> None:
    column = ByteColumn.of(wanted)
    assert items(column) == wanted
    assert len(column) == len(wanted)
    assert column.starts.dtype == column.lengths.dtype == np.int64


@pytest.mark.parametrize("wanted", [[], ["", "a"], ["é", "a", "日本", ""], ["plain", "text"]])
def test_texts_are_utf8(wanted: list[str]) -> None:
    assert items(ByteColumn.of_texts(wanted)) == [text.encode() for text in wanted]
