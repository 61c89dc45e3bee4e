"""What a reference keeps beside its bins: fine bins, known texts, groups, and old packages."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from streams.errors import ModelError
from training.answers import Answers
from training.dispersion import Dispersion
from training.networks.tasks import Binary, MultiClass, Regression
from training.reference import Reference
from training.score_reference import CELLS, cells
from training.tallying import GROUP_ROWS
from training.validation_scores import calibration_sums, score_dispersions, validation_scores

DAY_MS = 86_400_000


@dataclass
class Rows:
    numeric: NDArray[np.float64]
    categories: list[list[str]]


def _rows(n: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(n, 2))
    numbers[rng.random(n) < 0.1, 0] = np.nan
    numbers[:, 1] = rng.poisson(2, n)
    texts = [f"t{int(i)}" for i in np.floor(rng.exponential(12, n))]
    return Rows(numbers, [texts])


def _reference(rows: Rows, **more: object) -> Reference:
    return Reference.from_columns([rows], ["x", "count"], ["text"], **more)  # type: ignore[arg-type]


def test_bins_are_sums_of_the_fine_ones_whatever_the_rows() -> None:
    reference = _reference(_rows(5_000, 0))
    other = _rows(3_000, 1)
    other.numeric[:3, 0] = [np.inf, -np.inf, 99.0]
    fine = reference.fine_counts(other)

    for name, edges in reference.edges.items():
        assert set(edges) <= set(reference.fine_edges[name])
        column = other.numeric[:, list(reference.edges).index(name)]
        missing = np.isnan(column)
        counted = np.bincount(
            np.searchsorted(edges, column[~missing], side="left"), minlength=len(edges) + 1
        )
        expected = [*counted.tolist(), int(missing.sum())]
        assert reference.coarse(name, fine[name]).tolist() == expected
    assert len(reference.fine_edges["x"]) > 100
    assert {name: counts.sum() for name, counts in fine.items()} == dict.fromkeys(fine, 3_000)


def test_the_bin_of_each_row_says_the_same_as_the_counts() -> None:
    reference, rows = _reference(_rows(2_000, 0)), _rows(1_000, 1)
    fine, bins = reference.fine_counts(rows), reference.fine_bins(rows)

    for name, found in bins.items():
        counted = np.bincount(found, minlength=reference.fine_width(name))
        assert counted.tolist() == fine[name].tolist()


def test_what_is_outside_the_range_and_what_is_new_have_fine_bins_of_their_own() -> None:
    reference = _reference(_rows(5_000, 0))
    assert reference.fine_expected["x"][0] == reference.fine_expected["x"][-2] == 0
    low, high = reference.ranges["x"]
    found = reference.fine_counts(
        Rows(np.array([[low, 0], [low - 1, 0], [high, 0], [high + 1, 0]]), [["t0", "", "no", "no"]])
    )

    assert found["x"][0] == found["x"][-2] == 1
    assert found["text"][-1] == 2
    assert found["text"][reference.missing_bin("text")] == 1
    assert reference.fine_expected["text"][-1] == 0


def test_known_texts_begin_with_those_that_have_a_bin() -> None:
    texts = [f"t{i:04}" for i in range(1_500) for _ in range(1 + (i < 40))]
    reference = _reference(Rows(np.zeros((len(texts), 2)), [texts]))

    known = reference.known["text"]
    assert known[:30] == reference.values["text"]
    assert 1_000 <= len(known) <= 1_001
    assert reference.fine_expected["text"].sum() == len(texts)
    assert reference.coarse("text", reference.fine_expected["text"]).tolist() == list(
        reference.expected["text"]
    )


def test_groups_have_the_same_bins_and_their_own_counts() -> None:
    rows, n = _rows(9_000, 0), 9_000
    texts = ["big" if i % 3 else "half" for i in range(n - 10)] + ["rare"] * 10
    times = np.sort(np.random.default_rng(2).integers(0, 20 * DAY_MS, n))
    reference = _reference(rows, times_ms=[times], groups={"kind": [texts]})

    assert sorted(reference.groups) == ["kind=big", "kind=half"]
    half = np.array([text == "half" for text in texts])
    assert half.sum() >= GROUP_ROWS
    own = reference.groups["kind=half"]
    part = Rows(
        rows.numeric[half], [[t for t, h in zip(rows.categories[0], half, strict=True) if h]]
    )
    assert own.edges == reference.edges
    for name, counts in reference.counts(part).items():
        assert own.expected[name].tolist() == counts.tolist()
    assert own.dispersions.keys() == reference.dispersions.keys()


def test_json_gives_the_same_reference_with_all_it_keeps() -> None:
    rows = _rows(6_000, 0)
    times = np.sort(np.random.default_rng(2).integers(0, 20 * DAY_MS, 6_000))
    groups = {"kind": [["a", "b"] * 3_000]}
    answers = Answers(np.random.default_rng(3).random(100))
    task = Binary()
    reference = _reference(rows, times_ms=[times], groups=groups).with_scores(
        validation_scores(task, answers),
        calibration_sums(task, answers, np.ones(100)),
        {"score": Dispersion((DAY_MS,), (2.0,), (3.0,), (9,), (100.0,))},
    )
    again = Reference.from_json(json.loads(json.dumps(reference.to_json(), allow_nan=False)))

    assert again.to_json() == reference.to_json()
    assert again.known == reference.known
    assert again.fine_edges == reference.fine_edges
    assert again.ranges == reference.ranges
    assert again.dispersions == reference.dispersions != {}
    assert again.groups["kind=a"].dispersions == reference.groups["kind=a"].dispersions != {}
    assert again.score_dispersion("score").of_window(DAY_MS, 100).factor == pytest.approx(2)
    assert again.score_dispersion("class") == Dispersion()
    assert again.groups["kind=a"].score_dispersions == {}
    assert again.calibration is not None
    assert again.calibration[:, 0].sum() == again.scores["score"].sum() == 100


def test_a_reference_of_an_older_version_has_fine_bins_equal_to_the_others() -> None:
    told = {
        "numeric": [{"name": "x", "edges": [1.0, 2.0], "expected": [5, 3, 2, 1]}],
        "categories": [{"name": "c", "values": ["a"], "expected": [9, 2]}],
    }
    old = Reference.from_json(told)

    assert old.fine_edges == {"x": (1.0, 2.0)}
    assert old.known == {"c": ("a",)}
    assert old.fine_expected["x"].tolist() == old.expected["x"].tolist() == [5, 3, 2, 1]
    assert old.coarse("c", np.array([4, 1])).tolist() == [4, 1]
    assert old.dispersion("x").of_window(DAY_MS, 100).factor == 1.0
    assert (old.scores, old.calibration, old.groups, old.ranges) == ({}, None, {}, {})
    assert Reference.from_json(old.to_json()).to_json() == old.to_json()


def test_a_damaged_fine_reference_is_refused() -> None:
    told = _reference(_rows(100, 0)).to_json()
    told["numeric"][0]["range"] = [1.0]
    with pytest.raises(ModelError, match="not a reference"):
        Reference.from_json(told)


def test_scores_of_validation_are_counted_with_what_turned_out() -> None:
    answers, targets = Answers(np.array([0.2, 0.2, 0.9])), np.array([0.0, 1.0, 1.0])
    sums = calibration_sums(Binary(), answers, targets)

    assert sums is not None
    assert sums.shape == (CELLS, 3)
    low, high = cells(np.array([0.2, 0.9])).tolist()
    assert sums[low].tolist() == pytest.approx([2, 0.4, 1])
    assert sums[high].tolist() == pytest.approx([1, 0.9, 1])
    assert validation_scores(Binary(), answers)["score"].tolist() == sums[:, 0].tolist()


def test_scores_that_differ_from_day_to_day_are_told_from_those_that_do_not() -> None:
    days, n = 30, 200
    times = np.arange(days * n) * (DAY_MS // n)
    random = np.random.default_rng(5)
    steady = random.beta(2, 8, days * n)
    logits = np.log(steady / (1 - steady)) + np.repeat(random.normal(0, 0.7, days), n)
    task = Binary()
    moving = Answers(1 / (1 + np.exp(-logits)))

    factors = [
        score_dispersions(task, answers, times)["score"].of_window(DAY_MS, n).factor
        for answers in (Answers(steady), moving)
    ]

    assert factors[0] < 1.5
    assert factors[1] > 5
    assert score_dispersions(task, Answers(steady[:50]), times[:50]) == {}
    assert score_dispersions(task, Answers(steady[:0]), times[:0]) == {}
    numbers = Answers(np.zeros(2), spread=np.ones(2))
    assert score_dispersions(Regression(), numbers, times[:2]) == {}


def test_of_classes_the_highest_probability_counts_and_a_regression_has_no_scores() -> None:
    task = MultiClass(("a", "b", "c"))
    answers = Answers.of_classes(np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]))
    sums = calibration_sums(task, answers, np.array([0.0, 2.0]))

    assert sums is not None
    assert sums.sum(axis=0).tolist() == pytest.approx([2, 1.3, 1])
    assert validation_scores(task, answers)["class"].tolist() == [1, 1, 0]
    many = Answers.of_classes(np.random.default_rng(0).dirichlet(np.ones(3), 2_000))
    days = np.arange(2_000) * (DAY_MS // 100)
    assert score_dispersions(task, many, days).keys() == {"score", "class"}
    numbers = Answers(np.zeros(2), spread=np.ones(2))
    assert calibration_sums(Regression(), numbers, np.zeros(2)) is None
    assert validation_scores(Regression(), numbers) == {}


def test_counts_of_some_features_are_those_among_all() -> None:
    reference, rows = _reference(_rows(2_000, 0)), _rows(1_000, 1)
    every, some = reference.fine_counts(rows), reference.fine_counts(rows, ("text", "count"))

    assert some.keys() == {"text", "count"}
    for name, counts in some.items():
        assert counts.tolist() == every[name].tolist()
