"""Rates and comparisons beside fairlearn's."""

from collections.abc import Callable

import numpy as np
import pytest
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_ratio,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from scipy.stats import chi2_contingency

from serving.fairness.comparing import largest_difference, ratio_to_highest
from serving.fairness.rates import FEWEST, Mean, Share, contributions, figures
from tests.serving.performance.matched import calibrated
from training.networks.tasks import Binary, MultiClass, Regression

OF_FAIRLEARN: dict[str, Callable[..., float]] = {
    "selection_rate": selection_rate,
    "true_positive_rate": true_positive_rate,
    "false_positive_rate": false_positive_rate,
}
GROUPS = ("a", "b", "c")


def _unfair(n: int = 6_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three groups, one of which is scored lower than it deserves."""
    scores, labels = calibrated(n, 1)
    groups = np.random.default_rng(2).integers(0, 3, n)
    return np.where(groups == 1, scores * 0.7, scores), labels, groups


def _figures(decision: float = 0.4) -> dict[str, dict[str, Share | Mean]]:
    scores, labels, groups = _unfair()
    rows = contributions(scores, labels, Binary(), decision)
    return {
        name: figures(rows[groups == i].sum(axis=0)[None, :], Binary(), 0)
        for i, name in enumerate(GROUPS)
    }


def test_rates_ratios_and_differences_are_fairlearns() -> None:
    scores, labels, groups = _unfair()
    decided, names = scores >= 0.4, np.array(GROUPS)[groups]
    frame = MetricFrame(
        metrics=OF_FAIRLEARN, y_true=labels, y_pred=decided, sensitive_features=names
    )
    found = _figures()

    differences = frame.difference(method="between_groups")
    for metric in OF_FAIRLEARN:
        for name in GROUPS:
            assert found[name][metric].bounds.value == pytest.approx(frame.by_group[metric][name])
        apart = largest_difference({name: found[name][metric] for name in GROUPS})
        assert apart is not None
        assert apart.bounds.value == pytest.approx(differences[metric])
        assert apart.low == "b"
    rates = {n: s for n in GROUPS if isinstance(s := found[n]["selection_rate"], Share)}
    ratios = [ratio_to_highest(rates, name) for name in GROUPS]
    assert min(ratio.bounds.value for ratio in ratios if ratio) == pytest.approx(
        demographic_parity_ratio(labels, decided, sensitive_features=names)
    )


def test_calibration_gaps_are_signed_where_groups_are_compared() -> None:
    scores, labels, groups = _unfair()
    found = _figures()
    signed = [float((scores - labels)[groups == i].mean()) for i in range(3)]

    gaps = {name: found[name]["group_calibration_gap"] for name in GROUPS}
    apart = largest_difference(gaps)

    for value, gap in zip(signed, gaps.values(), strict=True):
        assert gap.bounds.value == pytest.approx(abs(value), abs=1e-7)
    assert apart is not None
    assert apart.bounds.value == pytest.approx(max(signed) - min(signed), abs=1e-7)


def test_chance_of_two_groups_is_the_chi_squared_one() -> None:
    one, other = Share(30, 200, 1.0), Share(90, 400, 1.0)
    found = ratio_to_highest({"one": one, "other": other}, "one")
    assert found is not None
    expected = chi2_contingency([[30, 170], [90, 310]], correction=False).pvalue
    assert found.chance == pytest.approx(expected)
    assert found.bounds.value == pytest.approx(0.15 / 0.225)


def test_days_that_differ_make_a_difference_less_sure() -> None:
    sure, unsure = (
        largest_difference({"a": Share(300, 1_000, by), "b": Share(350, 1_000, by)})
        for by in (1.0, 4.0)
    )
    assert sure is not None
    assert unsure is not None
    assert sure.chance < 0.05 < unsure.chance
    assert (unsure.bounds.low or 0) < (sure.bounds.low or 0)


def test_of_many_alike_groups_the_farthest_are_rarely_taken_for_unlike() -> None:
    rng, runs, alarms = np.random.default_rng(3), 1_000, 0
    for _ in range(runs):
        shares = {f"{i}": Share(int(rng.binomial(500, 0.3)), 500, 1.0) for i in range(6)}
        found = largest_difference(shares)
        assert found is not None
        alarms += found.chance < 0.05
    assert alarms / runs < 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)


def test_intervals_of_ratios_hold_the_true_one() -> None:
    rng, runs, held = np.random.default_rng(4), 1_000, 0
    for _ in range(runs):
        shares = {
            "low": Share(int(rng.binomial(300, 0.2)), 300, 1.0),
            "high": Share(int(rng.binomial(500, 0.5)), 500, 1.0),
        }
        found = ratio_to_highest(shares, "low")
        assert found is not None
        assert found.bounds.low is not None
        assert found.bounds.high is not None
        held += found.bounds.low <= 0.4 <= found.bounds.high
    assert held / runs == pytest.approx(0.95, abs=0.025)


def test_rates_of_few_are_not_told() -> None:
    n = 200
    labels = (np.arange(n) < FEWEST - 1).astype(np.float64)
    rows = contributions(np.full(n, 0.3), labels, Binary(), 0.5)
    found = figures(rows.sum(axis=0)[None, :], Binary(), 0)

    assert set(found) == {"selection_rate", "false_positive_rate", "group_calibration_gap"}
    assert ratio_to_highest({"a": Share(0, 50, 1.0), "b": Share(0, 50, 1.0)}, "a") is None


def test_of_several_classes_each_is_a_question_of_its_own() -> None:
    task = MultiClass(("a", "b", "c"))
    scores = np.array([[0.6, 0.3, 0.1]] * 60 + [[0.2, 0.3, 0.5]] * 40)
    labels = np.array([0.0] * 50 + [2.0] * 50)
    steps = contributions(scores, labels, task, 0.5).sum(axis=0)[None, :]

    first, last = figures(steps, task, 0), figures(steps, task, 2)

    assert first["selection_rate"].bounds.value == 0.6
    assert first["true_positive_rate"].bounds.value == 1.0
    assert last["true_positive_rate"].bounds.value == 0.8
    assert last["false_positive_rate"].bounds.value == 0.0
    gap = first["group_calibration_gap"]
    assert gap.bounds.value == pytest.approx(abs(0.6 * 0.6 + 0.4 * 0.2 - 0.5), abs=1e-7)


def test_a_regression_has_the_mean_error_in_spreads() -> None:
    scores = np.tile([10.0, 2.0], (100, 1))
    steps = contributions(scores, np.full(100, 13.0), Regression(), 0.5).sum(axis=0)[None, :]
    assert figures(steps, Regression(), 0)["mean_error_in_spreads"].bounds.value == 1.5
