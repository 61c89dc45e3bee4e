import json

import numpy as np
import pytest

from streams.errors import ModelError
from training.dataset.encoding import Encoding
from training.dataset.prepared import Examples


def one_column(values: list[float], texts: list[str] | None = None) -> Examples:
    n = len(values)
    return Examples(
        np.array(values)[:, None],
        [texts if texts is not None else ["a"] * n],
        np.zeros(n),
        np.zeros(n, np.int64),
    )


def test_an_outlier_does_not_squeeze_the_bulk_and_stays_finite() -> None:
    values = [*np.linspace(0, 10, 101), 1e12]
    encoding = Encoding.fit(["x"], ["c"], one_column(values))
    inputs = encoding.numeric_inputs(np.array([[2.0], [8.0], [1e12], [np.inf], [-np.inf]]))
    assert inputs[1, 0] - inputs[0, 0] > 0.5
    assert np.isfinite(inputs).all()
    assert inputs[3, 0] > inputs[1, 0] > inputs[4, 0]


def test_the_sign_of_a_small_difference_is_seen() -> None:
    rng = np.random.default_rng(0)
    encoding = Encoding.fit(["x"], ["c"], one_column(list(rng.normal(1.0, 1.0, 1000))))
    below, above = encoding.numeric_inputs(np.array([[-0.01], [0.01]]))[:, 1]
    assert below == -above
    assert above - below > 0.1  # 20 times what standardising would leave of it


def test_missing_is_an_input_of_its_own() -> None:
    encoding = Encoding.fit(["x"], ["c"], one_column([5.0, 6.0, 7.0, np.nan]))
    inputs = encoding.numeric_inputs(np.array([[np.nan], [6.0]]))
    assert inputs[0].tolist() == [0.0, 0.0, 1.0]
    assert inputs[1, 2] == 0.0


@pytest.mark.parametrize("values", [[3.0] * 10, [np.nan] * 10, [0.0] * 9 + [4.0]])
def test_columns_without_spread_are_encoded(values: list[float]) -> None:
    encoding = Encoding.fit(["x"], ["c"], one_column(values))
    assert np.isfinite(encoding.numeric_inputs(np.array([[0.0], [3.0], [np.nan]]))).all()


def test_unknown_and_missing_categories_share_code_0() -> None:
    encoding = Encoding.fit(["x"], ["c"], one_column([0.0] * 4, ["b", "a", "", "b"]))
    assert encoding.vocabularies == (("a", "b"),)
    assert encoding.code_counts == (3,)
    assert encoding.codes([["a", "b", "", "new"]], 4)[:, 0].tolist() == [1, 2, 0, 0]


def test_json_gives_the_same_encoding_to_the_last_bit() -> None:
    rng = np.random.default_rng(1)
    encoding = Encoding.fit(["x"], ["c"], one_column(list(rng.normal(size=7)), list("abcdefg")))
    again = Encoding.from_json(json.loads(json.dumps(encoding.to_json())))
    assert again == encoding


def test_foreign_columns_and_content_are_refused() -> None:
    encoding = Encoding.fit(["x"], ["c"], one_column([0.0, 1.0]))
    with pytest.raises(ModelError, match="2 numeric columns, but the model was trained with 1"):
        encoding.numeric_inputs(np.zeros((3, 2)))
    with pytest.raises(ModelError, match="0 category columns"):
        encoding.codes([], 3)
    with pytest.raises(ModelError, match="not an encoding"):
        Encoding.from_json({"numeric": [{}], "categories": []})
