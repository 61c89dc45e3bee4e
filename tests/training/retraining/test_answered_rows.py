"""Later examples as another model reads them."""

import numpy as np
import pytest

from streams.errors import ModelError
from training.dataset.encoding import Encoding
from training.dataset.histories import NONE, Histories
from training.dataset.prepared import Examples, PreparedData
from training.retraining.answered_rows import history_rows, rows_for


def encoding(numeric: tuple[str, ...], category: tuple[str, ...]) -> Encoding:
    return Encoding(
        numeric, category, (0.0,) * len(numeric), (1.0,) * len(numeric), ((),) * len(category)
    )


EXAMPLES = Examples(
    np.array([[1.0, 2.0], [3.0, 4.0]]),
    [["a", "b"], ["x", "y"]],
    np.zeros(2),
    np.arange(2),
)
PREPARED = PreparedData(("speed", "load"), ("site", "kind"), EXAMPLES, EXAMPLES)


def test_columns_come_in_the_order_of_the_model() -> None:
    rows = rows_for(encoding(("load", "speed"), ("kind", "site")), 0, PREPARED, EXAMPLES)
    assert not isinstance(rows, Histories)
    assert rows.numeric.tolist() == [[2, 1], [4, 3]]
    assert [list(texts) for texts in rows.categories] == [["x", "y"], ["a", "b"]]


@pytest.mark.parametrize(
    ("numeric", "category"), [(("load",), ("site", "kind")), (("load", "speed"), ("site", "hour"))]
)
def test_a_model_of_other_features_is_told(
    numeric: tuple[str, ...], category: tuple[str, ...]
) -> None:
    with pytest.raises(ModelError, match=r"it reads the (numeric|category) features"):
        rows_for(encoding(numeric, category), 0, PREPARED, EXAMPLES)


def test_histories_need_the_log() -> None:
    with pytest.raises(ModelError, match="sees the last 4 events"):
        rows_for(encoding(("load", "speed"), ("site", "kind")), 4, PREPARED, EXAMPLES)


def test_a_history_is_the_entitys_last_events_and_its_own_at_the_end() -> None:
    #               partition 0              | partition 1
    places = np.array([[0, 5], [0, 6], [0, 6], [0, 9], [0, 11], [1, 2], [1, 3]])
    entities = np.array([1, 2, 2, 1, 1, 1, 1])  # the third row was written again by a crash
    found = history_rows(places, entities, np.array([4, 1, 6, 0]), 2)
    assert found.tolist() == [[3, 4], [NONE, 1], [5, 6], [NONE, 0]]
