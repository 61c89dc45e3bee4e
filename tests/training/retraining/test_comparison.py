"""The paired comparison: intervals that hold under dependence in time, and what follows."""

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from training.retraining.comparison import (
    MINIMUM,
    Comparison,
    Policy,
    compare,
    interval,
    objection,
    out_of_fold,
)


def autocorrelated(rng: np.random.Generator, runs: int, n: int, phi: float) -> NDArray[np.float64]:
    """Return ``runs`` series (runs, n) of mean 0 and x_t = φ x_(t−1) + noise, begun in balance."""
    noise = rng.standard_normal((runs, n))
    noise[:, 0] /= np.sqrt(1 - phi**2)
    series = np.empty_like(noise)
    series[:, 0] = noise[:, 0]
    for t in range(1, n):
        series[:, t] = phi * series[:, t - 1] + noise[:, t]
    return series


def coverage(series: NDArray[np.float64]) -> float:
    bounds = [interval(one) for one in series]
    return float(np.mean([b.low <= 0 <= b.high for b in bounds]))


@pytest.mark.parametrize(("phi", "n"), [(0.0, 400), (0.5, 1_000), (0.9, 3_000)])
def test_the_interval_covers_as_it_says_though_neighbours_depend(phi: float, n: int) -> None:
    share = coverage(autocorrelated(np.random.default_rng(3), 1_500, n, phi))
    assert 0.90 <= share <= 0.98


def test_single_examples_would_not_cover() -> None:
    """What the blocks are for: an interval from single examples holds a third of the time."""
    series = autocorrelated(np.random.default_rng(3), 500, 3_000, 0.9)
    standard_errors = series.std(axis=1, ddof=1) / np.sqrt(series.shape[1])
    assert np.mean(np.abs(series.mean(axis=1)) <= 1.96 * standard_errors) < 0.5


def test_the_interval_is_narrow_where_the_models_agree_on_most() -> None:
    """Both lose the same on hard days: only the difference counts."""
    rng = np.random.default_rng(5)
    hard = np.repeat(rng.exponential(1.0, 40), 50)
    champion, challenger = hard + 0.02, hard + rng.normal(0, 0.01, len(hard))
    found = compare(6, {"log_loss": (champion, challenger)}, np.arange(len(hard)))
    paired = found.scores["log_loss"]
    assert paired.champion - paired.challenger == pytest.approx(0.02, abs=0.001)
    assert paired.difference.high < -0.018
    words = r"log loss -0\.0(19|20)\d \[-0\.\d{4}, -0\.\d{4}\] against model 6 on 2,000 later"
    assert re.match(words, str(found))


def losses(shift: float, n: int = 1_000) -> dict[str, tuple[NDArray[np.float64], ...]]:
    rng = np.random.default_rng(1)
    champion = rng.exponential(1.0, n)
    return {"log_loss": (champion, champion + shift + rng.normal(0, 0.05, n))}


@pytest.mark.parametrize(
    ("shift", "policy", "objects"),
    [
        (0.1, "not_worse", True),
        (0.0, "not_worse", False),
        (-0.1, "not_worse", False),
        (0.1, "better", True),
        (0.0, "better", True),
        (-0.002, "better", True),
        (-0.1, "better", False),
        (0.1, "none", False),
    ],
)
def test_what_a_policy_keeps_from_going_live(shift: float, policy: Policy, objects: bool) -> None:
    found = compare(6, losses(shift), np.arange(1_000))  # type: ignore[arg-type]
    why = objection(found, policy)
    assert (why is not None) == objects
    assert why is None or "against model 6 on 1,000 later examples" in why


@pytest.mark.parametrize("policy", ["not_worse", "better", "none"])
def test_what_could_not_be_compared_is_no_objection(policy: Policy) -> None:
    few = compare(6, losses(0.5, MINIMUM - 1), np.arange(MINIMUM - 1))  # type: ignore[arg-type]
    assert "199 examples of the validation slice are later" in str(few.not_compared)
    assert not few.scores
    assert objection(few, policy) is None
    assert objection(None, policy) is None


def test_losses_that_are_no_numbers_are_not_compared() -> None:
    endless = np.full(400, np.inf)
    found = compare(2, {"log_loss": (endless, np.zeros(400))}, np.arange(400))
    assert found.not_compared == "a log loss of model 2 or the new one is not finite"


def test_what_the_log_keeps_can_be_read_again() -> None:
    found = compare(6, losses(-0.1), np.arange(1_000) + 5)  # type: ignore[arg-type]
    kept = found.to_json()
    assert (kept["from_ms"], kept["to_ms"], kept["level"], kept["blocks"]) == (5, 1_004, 0.95, 20)
    assert "best epoch" in kept["favours_challenger"]
    assert Comparison.from_json(kept) == found
    nothing = Comparison(0, not_compared="no model is live yet")
    assert Comparison.from_json(nothing.to_json()) == nothing


def test_each_half_is_judged_as_calibrated_on_the_other() -> None:
    outputs, targets = np.arange(7.0), np.arange(7.0) * 10
    seen: list[tuple[list[float], list[float]]] = []

    def judged(*parts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        seen.append((parts[0].tolist(), parts[2].tolist()))
        return {"log_loss": parts[3] - parts[0].sum()}

    found = out_of_fold(outputs, targets, judged)["log_loss"]
    assert seen == [([3, 4, 5, 6], [0, 1, 2]), ([0, 1, 2], [3, 4, 5, 6])]
    assert found.tolist() == [-18, -8, 2, 27, 37, 47, 57]
