"""Lengths of time as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.durations import seconds
from streams.errors import DefinitionError


@pytest.mark.parametrize(
    ("text", "length"),
    [("90s", 90), ("15m", 900), ("24h", 86_400), ("24h30m", 88_200), ("7d", 604_800), ("01s", 1)],
)
def test_whole_seconds(text: str, length: int) -> None:
    assert seconds(text) == length


@given(st.integers(0, 99), st.integers(0, 99), st.integers(1, 99))
def test_parts_add_up(days: int, hours: int, rest: int) -> None:
    assert seconds(f"{days}d{hours}h{rest}s") == days * 86_400 + hours * 3_600 + rest


@pytest.mark.parametrize("text", ["", "0s", "5", "5 m", "1.5h", "-1d", "5w", "m5", "5m,", "5m x"])
def test_anything_else_is_an_error_with_an_example(text: str) -> None:
    with pytest.raises(DefinitionError, match='for example "90s"') as caught:
        seconds(text)
    assert repr(text) in str(caught.value)
