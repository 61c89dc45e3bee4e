"""Fields of a record turned into numbers, a batch at a time."""

import numpy as np
import pytest

from streams.expressions import Above, Columns, Equals, Expression, Value

COLUMNS: Columns = {
    "minutes": [14.0, 15.0, 16, None, float("nan"), 2**53],
    "member": [True, False, None],
    "kind": ["a", "b", None, "a "],
    "number": [1, 2, None, 10**18],
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (Value("minutes"), [14.0, 15.0, 16.0, np.nan, np.nan, 2.0**53]),
        (Value("member"), [1.0, 0.0, np.nan]),
        (Above("minutes", 15.0), [0.0, 0.0, 1.0, np.nan, np.nan, 1.0]),
        (Above("member", 0.5), [1.0, 0.0, np.nan]),
        (Equals("kind", "a"), [1.0, 0.0, np.nan, 0.0]),
        (Equals("number", 2), [0.0, 1.0, np.nan, 0.0]),
        (Equals("member", True), [1.0, 0.0, np.nan]),
    ],
)
def test_values_over_a_batch(expression: Expression, expected: list[float]) -> None:
    values = expression.evaluate(COLUMNS)
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("expression", [Value("x"), Above("x", 0), Equals("x", "a")])
def test_an_empty_batch_gives_no_values(expression: Expression) -> None:
    assert expression.evaluate({"x": []}).shape == (0,)


def test_values_do_not_depend_on_batch_boundaries() -> None:
    values = [3.5, None, 7.25, -1.0]
    whole = Above("x", 1.0).evaluate({"x": values})
    parts = [Above("x", 1.0).evaluate({"x": values[i : i + 1]}) for i in range(4)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
