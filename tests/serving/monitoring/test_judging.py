import numpy as np
import pytest

from serving.monitoring.judging import (
    Excursions,
    Finding,
    LiveModel,
    judge_drift,
    judge_performance,
    performance_key,
)
from serving.monitoring.windows import StepSums
from serving.performance.figures import contributions
from serving.spec import DataDrift, Performance
from streams.wire import Metric, Window
from training.networks.tasks import Regression

DAY = 86_400_000
LIVE = LiveModel(3, {"a": np.array([500, 500]), "b": np.array([500, 500])}, {"log_loss": 0.3})


def _counts(**features: tuple[int, int]) -> StepSums:
    sums = StepSums(DAY)
    for name, counts in features.items():
        sums.add_total(name, 0, np.array(counts, dtype=np.int64))
    return sums


def _scores(n: int, score: float, share: float, group: str | None = None) -> StepSums:
    sums = StepSums(DAY)
    labels = (np.arange(n) < n * share).astype(np.float64)
    rows = contributions(np.full(n, score), labels)
    sums.add(performance_key(3), np.zeros(n, np.int64), rows)
    if group is not None:
        sums.add(performance_key(3, group), np.zeros(n, np.int64), rows)
    return sums


def test_drift_names_feature_figures_and_chance() -> None:
    monitor = DataDrift(window="1d", minimum=100)
    findings = judge_drift(monitor, LIVE, _counts(a=(5_900, 310), b=(3_100, 3_110)), DAY)

    assert [f.metric.feature for f in findings] == ["a", "b"]
    cause = findings[0].cause
    assert cause is not None
    assert cause.startswith("PSI of a is 1.33, above")
    assert cause.endswith("that chance gives at n=6,210")
    assert "above 0.25 and above 0.00" in cause
    assert (findings[1].cause, findings[1].calm) == (None, True)


def test_too_few_events_or_no_model_give_no_drift() -> None:
    monitor = DataDrift(window="1d", minimum=100)

    assert judge_drift(monitor, LIVE, _counts(a=(90, 9)), DAY) == []
    assert judge_drift(monitor, LiveModel(), _counts(a=(900, 99)), DAY) == []


def test_only_the_named_features_are_compared() -> None:
    monitor = DataDrift(window="1d", minimum=100, features=("b",))
    findings = judge_drift(monitor, LIVE, _counts(a=(900, 99), b=(900, 99)), DAY)

    assert [f.metric.feature for f in findings] == ["b"]


def test_performance_says_by_how_much_and_against_what() -> None:
    findings = judge_performance(Performance(window="1d"), LIVE, _scores(1_000, 0.2, 0.4), DAY)

    causes = {f.metric.metric: f.cause for f in findings}
    assert causes["brier"] is causes["accuracy"] is None
    assert causes["log_loss"] is not None
    assert "0.375 (1.25 times the 0.3 in validation)" in causes["log_loss"]
    assert causes["calibration_gap"] is not None
    assert "says 0.2 on average, 0.4 turned out: a gap of 0.2" in causes["calibration_gap"]


def test_the_stated_prior_has_figures_but_raises_no_alarm() -> None:
    sums = StepSums(DAY)
    rows = contributions(np.full(1_000, 0.9), np.zeros(1_000))
    sums.add(performance_key(0), np.zeros(1_000, np.int64), rows)

    findings = judge_performance(Performance(window="1d"), LiveModel(), sums, DAY)

    assert {f.metric.metric for f in findings} == {
        "log_loss", "brier", "accuracy", "calibration_gap"
    }  # fmt: skip
    assert all(f.cause is None and f.metric.threshold is None for f in findings)


def test_groups_have_figures_of_their_own_and_no_alarms() -> None:
    sums = _scores(1_000, 0.2, 0.4, "user=guest")
    findings = judge_performance(Performance(window="1d"), LIVE, sums, DAY)

    groups = [f for f in findings if "[" in f.metric.metric]
    assert [f.metric.metric for f in groups] == [
        "brier[user=guest]",
        "calibration_gap[user=guest]",
    ]
    assert groups[1].metric.value == pytest.approx(0.2)
    assert all(f.cause is None for f in groups)


def _finding(value: float, version: int = 1, sure: bool = True) -> Finding:
    metric = Metric("psi", "a", value, 0.25, 100, Window(0, DAY), version)
    alarming = value >= 0.25 and sure
    return Finding("data_drift", metric, "why" if alarming else None, value < 0.25)


@pytest.mark.parametrize(
    ("course", "told"),
    [
        ([_finding(0.4), _finding(0.5), _finding(0.3)], [0]),
        ([_finding(0.4), _finding(0.2), _finding(0.4)], [0, 2]),
        ([_finding(0.4), _finding(0.3, sure=False), _finding(0.4)], [0]),
        ([_finding(0.4), _finding(0.4, version=2), _finding(0.4, version=2)], [0]),
        ([_finding(0.3, sure=False), _finding(0.4)], [1]),
    ],
    ids=["standing", "came back", "only less sure", "new model", "first unsure"],
)
def test_an_excursion_is_told_once(course: list[Finding], told: list[int]) -> None:
    excursions = Excursions()

    assert [i for i, finding in enumerate(course) if excursions.update([finding])] == told


def test_excursions_outlast_a_restart() -> None:
    before = Excursions()
    before.update([_finding(0.4)])

    assert Excursions(before.standing).update([_finding(0.4)]) == []


def test_a_regression_is_told_in_its_own_words() -> None:
    sums = StepSums(DAY)
    rows = contributions(np.tile([10.0, 1.0], (1_000, 1)), np.full(1_000, 13.0), Regression())
    sums.add(performance_key(1), np.zeros(1_000, np.int64), rows)
    live = LiveModel(1, {}, {"log_loss": -0.5})

    findings = judge_performance(Performance(window="1d"), live, sums, DAY, Regression())

    causes = {f.metric.metric: f.cause for f in findings}
    assert list(causes) == ["log_loss", "squared_error_in_spreads", "within_90", "calibration_gap"]
    assert "-0.277 (0.223 more than the -0.5 in validation)" in str(causes["log_loss"])
    assert "1 of what turned out lies above what model 1 said" in str(causes["calibration_gap"])
