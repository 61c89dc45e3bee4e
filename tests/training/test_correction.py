"""Weights and sampling change what is learnt by a known factor, which is taken off again."""

from typing import Literal

import numpy as np
import pytest

from training.calibration import begin_calibration
from training.correction import class_factors, shifts
from training.networks.tasks import Binary, MultiClass, Regression
from training.standard import Standard, stored_targets

CLASSES = MultiClass(("a", "b", "c"))


def test_dropped_negatives_are_undone_exactly() -> None:
    p, kept = 0.02, 0.1
    seen = p / (p + (1 - p) * kept)  # the share of positives among what is kept
    logit = np.log(seen / (1 - seen))
    undone = begin_calibration(Binary(), shifts(Binary(), np.ones(2), kept), Standard())
    assert undone.answers(np.array([[logit]])).score[0] == pytest.approx(p)


@pytest.mark.parametrize("class_weight", ["balanced", 7.0])
def test_class_weights_of_two_classes_are_undone_exactly(
    class_weight: Literal["balanced"] | float,
) -> None:
    targets, weights = np.array([1.0] * 3 + [0.0] * 17), np.linspace(0.5, 1.5, 20)
    factors = class_factors(Binary(), targets, weights, class_weight)
    weighted = weights * factors[targets.astype(int)]
    seen = weighted[targets == 1].sum() / weighted.sum()  # what a constant network learns
    if class_weight == "balanced":
        assert seen == pytest.approx(0.5)
    logit = np.log(seen / (1 - seen))
    undone = begin_calibration(Binary(), shifts(Binary(), factors), Standard())
    share = weights[targets == 1].sum() / weights.sum()
    assert undone.answers(np.array([[logit]])).score[0] == pytest.approx(share)


def test_balanced_classes_are_undone_exactly() -> None:
    targets, weights = np.array([0.0] * 6 + [1.0] * 3 + [2.0]), np.ones(10)
    factors = class_factors(CLASSES, targets, weights, "balanced")
    assert factors * np.array([6, 3, 1]) == pytest.approx(10 / 3)
    undone = begin_calibration(CLASSES, shifts(CLASSES, factors), Standard())
    given = undone.answers(np.zeros((1, 3))).probabilities
    assert given is not None
    assert given[0] == pytest.approx([0.6, 0.3, 0.1])


def test_a_class_without_examples_keeps_its_factor() -> None:
    factors = class_factors(CLASSES, np.array([0.0, 0.0, 2.0]), np.ones(3), "balanced")
    assert factors.tolist() == [0.75, 1.0, 1.5]


def test_without_weights_nothing_is_undone() -> None:
    factors = class_factors(Binary(), np.array([1.0, 0.0]), np.ones(2), None)
    assert shifts(Binary(), factors) == (0.0,)
    assert not len(class_factors(Regression(), np.ones(2), np.ones(2), None))
    assert shifts(Regression(), np.ones(0)) == ()


def test_a_regression_is_learnt_in_units_of_its_own() -> None:
    targets = np.array([10.0, 30.0])
    units = Standard.of(Regression(), targets)
    assert stored_targets(Regression(), targets, units).tolist() == [-1.0, 1.0]
    assert Standard.from_json(units.to_json()) == units
    assert Standard.of(Regression(), np.ones(3)) == Standard(1.0, 1.0)
    for task, dtype in ((Binary(), "f4"), (CLASSES, "i8")):
        assert Standard.of(task, targets) == Standard()
        assert stored_targets(task, np.array([1.0, 0.0]), Standard()).dtype == np.dtype(dtype)
