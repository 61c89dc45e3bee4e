import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streams.errors import ModelError
from training.reference import Reference


@dataclass
class Rows:
    numeric: NDArray[np.float64]
    categories: list[list[str]]


class Names:
    def names(self, kind: Any) -> list[str]:
        return {"numeric": ["x"], "category": ["c"]}[kind]


def rows(values: list[float], texts: list[str]) -> Rows:
    return Rows(np.array(values, dtype=np.float64)[:, None], [texts])


def test_training_deciles_hold_a_tenth_each_and_ends_are_open() -> None:
    reference = Reference.from_rows([rows(list(range(1000)), ["a"] * 1000)], Names())
    assert reference.expected["x"].tolist() == [100] * 10 + [0]
    far = reference.counts(rows([-1e9, 1e9, np.nan, np.inf, -np.inf], ["a"] * 5))["x"]
    assert far[0] == 2
    assert far[9] == 2
    assert far[10] == 1


def test_one_outlier_does_not_blind_the_bins() -> None:
    values = [*np.linspace(0, 1, 999), 1e15]
    reference = Reference.from_rows([rows(values, ["a"] * 1000)], Names())
    shifted = reference.counts(rows(list(np.linspace(0.5, 1.5, 1000)), ["a"] * 1000))["x"]
    assert shifted[9] > 500


def test_a_value_that_most_rows_share_has_a_bin_of_its_own() -> None:
    reference = Reference.from_rows([rows([0.0] * 90 + [1.0] * 10, ["a"] * 100)], Names())
    assert sorted(reference.expected["x"].tolist(), reverse=True)[:2] == [90, 10]
    assert len(reference.bin_labels("x")) == len(reference.expected["x"])


def test_leaving_a_constant_is_seen_on_both_sides() -> None:
    reference = Reference.from_rows([rows([3.0] * 5, ["a"] * 5)], Names())
    assert reference.expected["x"].tolist() == [0, 5, 0, 0]
    assert reference.counts(rows([2.9, 3.0, 3.1], ["a"] * 3))["x"].tolist() == [1, 1, 1, 0]


def test_a_column_that_is_always_missing_is_counted() -> None:
    reference = Reference.from_rows([rows([np.nan] * 5, ["a"] * 5)], Names())
    assert reference.expected["x"].tolist() == [0, 5]
    assert reference.bin_labels("x") == ["any", "missing"]


def test_rare_and_new_categories_are_other_and_missing_is_a_value() -> None:
    texts = [f"c{i}" for i in range(40) for _ in range(i + 1)] + [""] * 100
    reference = Reference.from_rows([rows([0.0] * len(texts), texts)], Names())
    assert len(reference.values["c"]) == 30
    counts = reference.counts(rows([0.0] * 4, ["c0", "never seen", "c39", ""]))["c"]
    by_label = dict(zip(reference.bin_labels("c"), counts, strict=True))
    assert by_label["other"] == 2
    assert by_label["c39"] == by_label["missing"] == 1


def test_pieces_add_up() -> None:
    rng = np.random.default_rng(0)
    pieces = [rows(list(rng.normal(size=50)), list(rng.choice(["a", "b"], 50))) for _ in range(3)]
    whole = rows(
        list(np.concatenate([p.numeric[:, 0] for p in pieces])),
        [text for p in pieces for text in p.categories[0]],
    )
    a, b = (Reference.from_rows(r, Names()) for r in (pieces, [whole]))
    assert a.to_json() == b.to_json()
    added = sum(a.counts(piece)["x"] for piece in pieces)
    assert np.array_equal(added, a.counts(whole)["x"])


def test_json_gives_the_same_reference() -> None:
    reference = Reference.from_rows([rows([0.1, 0.7, np.nan], ["a", "b", ""])], Names())
    again = Reference.from_json(json.loads(json.dumps(reference.to_json())))
    assert again.edges == reference.edges
    assert again.values == reference.values
    assert again.to_json() == reference.to_json()


def test_foreign_rows_and_content_are_refused() -> None:
    reference = Reference.from_rows([rows([0.1], ["a"])], Names())
    with pytest.raises(ModelError, match="different definitions"):
        reference.counts(Rows(np.zeros((2, 3)), [["a", "a"]]))
    with pytest.raises(ModelError, match="not a reference"):
        Reference.from_json({"numeric": 3})
