import numpy as np
import pytest

from serving.alerting.finding import Finding
from serving.monitoring.groups import Groups
from serving.monitoring.judging import LiveModel
from serving.monitoring.matching import Matches
from serving.performance.watch import PerformanceWatch
from serving.spec import Performance
from tests.serving.performance.matched import DAY, calibrated, groups_of, matches_of
from training.networks.tasks import Binary, MultiClass, Regression, Task

MONITOR = Performance(window="2d", minimum=100)
LIVE = LiveModel(3, {}, {"log_loss": 0.3})
USERS = groups_of(user=["guest", "member"])


def _watch(groups: Groups | None = None, task: Task | None = None) -> PerformanceWatch:
    return PerformanceWatch(MONITOR, task or Binary(), DAY, groups or groups_of())


def _by(
    findings: list[Finding], by: str, group: str | None = None, version: int = 3
) -> dict[str, Finding]:
    return {
        f.metric.metric: f
        for f in findings
        if (f.metric.by, f.metric.group, f.metric.model_version) == (by, group, version)
    }


def _surprised(n: int = 1_000) -> Matches:
    """A model that says 0.2 where 0.4 turn out."""
    return matches_of(np.full(n, 0.2), (np.arange(n) < 0.4 * n).astype(np.float64), DAY)


def test_a_loss_and_a_gap_too_large_matter_and_say_why() -> None:
    watch = _watch()
    watch.add_matches(_surprised())

    told = _by(watch.close(LIVE, 2 * DAY), "label")

    loss, gap = told["log_loss"], told["calibration_gap"]
    assert loss.metric.value == pytest.approx(-(0.4 * np.log(0.2) + 0.6 * np.log(0.8)))
    assert loss.metric.threshold == pytest.approx(0.375)
    assert loss.excess == pytest.approx((loss.metric.value - 0.3) / 0.075)
    assert loss.impact == pytest.approx(loss.metric.value - 0.3)
    assert loss.chance is not None
    assert loss.chance < 1e-12
    assert loss.cause is not None
    assert "above 0.375 (1.25 times the 0.3 in validation)" in loss.cause
    assert loss.onset is not None
    assert loss.onset.time_ms == DAY
    assert gap.excess == pytest.approx(0.2 / 0.05)
    assert gap.cause is not None
    assert "says 0.2 on average, 0.4 turned out: a gap of 0.2" in gap.cause
    assert told["brier"].excess is told["auc"].excess is None


def test_a_model_as_in_validation_is_calm() -> None:
    scores, labels = calibrated(4_000, 1)
    watch = _watch()
    watch.add_matches(matches_of(scores, labels, DAY))
    loss = _by(watch.close(LiveModel(3), 2 * DAY), "label")["log_loss"].metric.value

    told = _by(watch.close(LiveModel(3, {}, {"log_loss": loss}), 2 * DAY), "label")

    assert told["log_loss"].excess == pytest.approx(0, abs=1e-9)
    assert told["log_loss"].chance == pytest.approx(0.5)
    assert told["log_loss"].impact == pytest.approx(0, abs=1e-9)
    assert told["log_loss"].cause is told["calibration_gap"].cause is None


def test_a_small_validation_makes_a_difference_less_sure() -> None:
    watch = _watch()
    watch.add_matches(matches_of(*calibrated(4_000, 2), DAY))
    chances = [
        _by(watch.close(LiveModel(3, {}, {"log_loss": 0.48} | more), 2 * DAY), "label")["log_loss"]
        for more in ({}, {"n_validation": 400.0})
    ]

    known, sampled = (found.chance or 0.0 for found in chances)
    assert known < 0.01 < sampled < 0.5


def test_too_few_labels_or_no_model_raise_nothing() -> None:
    watch = _watch()
    watch.add_matches(_surprised(99))
    assert _by(watch.close(LIVE, 2 * DAY), "label") == {}
    watch.add_matches(matches_of(np.full(500, 0.9), np.zeros(500), DAY, versions=0))

    told = _by(watch.close(LiveModel(), 2 * DAY), "label", version=0)

    assert "log_loss" in told
    assert all(f.excess is None and f.metric.threshold is None for f in told.values())


def test_groups_and_versions_not_live_have_figures_and_no_alarm() -> None:
    watch = _watch(USERS)
    codes = np.repeat([[0], [1]], 500, axis=0)
    scores, labels = np.repeat([0.2, 0.6], 500), np.repeat([0.0, 1.0], 500)
    for version in (3, 4):
        watch.add_matches(matches_of(scores, labels, DAY, versions=version, groups=codes))

    findings = watch.close(LIVE, 2 * DAY)

    for version in (3, 4):
        for group, gap in (("user=guest", 0.2), ("user=member", 0.4)):
            told = _by(findings, "label", group, version)
            assert told["calibration_gap"].metric.value == pytest.approx(gap)
            assert all(f.excess is None for f in told.values())
    assert _by(findings, "label", None, 4)["log_loss"].excess is None
    assert _by(findings, "label", None, 3)["log_loss"].excess is not None


def test_windows_slide_and_forget() -> None:
    watch = _watch()
    for day, score in ((0, 0.9), (1, 0.6), (2, 0.3)):
        watch.add_matches(matches_of(np.full(200, score), np.zeros(200), day * DAY))
        watch.forget((day - 1) * DAY)
        told = _by(watch.close(LIVE, (day + 1) * DAY), "label")
        assert told["log_loss"].metric.n == min(2, day + 1) * 200

    assert told["calibration_gap"].metric.value == pytest.approx(0.45)


def test_a_late_label_restates_the_day_of_its_event() -> None:
    watch = _watch()
    watch.add_matches(matches_of(np.full(100, 0.2), np.zeros(100), 10 * DAY))
    first = _by(watch.close(LIVE, 11 * DAY), "event")["brier"].metric
    nothing = _by(watch.close(LIVE, 12 * DAY), "event")
    watch.add_matches(matches_of(np.full(100, 0.2), np.ones(100), 12 * DAY, 10 * DAY))
    again = _by(watch.close(LIVE, 13 * DAY), "event")["brier"].metric

    assert (first.window.start_ms, first.window.end_ms) == (10 * DAY, 11 * DAY)
    assert first.value == pytest.approx(0.04)
    assert (first.n, first.restated) == (100, 0)
    assert nothing == {}
    assert again.window == first.window
    assert again.value == pytest.approx(0.34)
    assert (again.n, again.restated) == (200, 1)


def test_what_arrives_after_the_closing_is_not_told_before_its_time() -> None:
    """Reading may run ahead of a closing: what is told there must not depend on by how much."""
    ahead, behind = _watch(), _watch()
    early = matches_of(np.full(100, 0.2), np.zeros(100), DAY, DAY)
    late = matches_of(np.full(100, 0.9), np.zeros(100), 2 * DAY, DAY)
    for part in (early, late):
        ahead.add_matches(part)
    behind.add_matches(early)
    first = behind.close(LIVE, 2 * DAY)
    behind.add_matches(late)

    assert ahead.close(LIVE, 2 * DAY) == first
    assert ahead.close(LIVE, 3 * DAY) == behind.close(LIVE, 3 * DAY)


def test_an_event_older_than_the_horizon_is_not_told_of() -> None:
    watch = _watch()
    watch.add_matches(matches_of(np.full(100, 0.2), np.zeros(100), 70 * DAY, 5 * DAY))
    assert _by(watch.close(LIVE, 71 * DAY), "event") == {}


def _all_kinds(task: Task) -> Matches:
    rng = np.random.default_rng(5)
    n, codes = 3_000, np.random.default_rng(6).integers(0, 2, (3_000, 1))
    if isinstance(task, Binary):
        scores, labels = calibrated(n, 7)
    elif isinstance(task, MultiClass):
        scores = rng.dirichlet([1, 2, 3], n)
        labels = (rng.random((n, 1)) > np.cumsum(scores, axis=1)).sum(axis=1).astype(np.float64)
    else:
        scores = np.column_stack([rng.normal(size=n), rng.uniform(0.5, 2, n)])
        labels = scores[:, 0] + scores[:, 1] * rng.normal(size=n)
    arrived = np.sort(rng.integers(0, 6 * DAY, n))
    happened = arrived - rng.integers(0, 2 * DAY, n).clip(max=arrived)
    return matches_of(scores, labels, arrived, happened, rng.integers(2, 5, n), codes)


TASKS: list[Task] = [Binary(), MultiClass(("a", "b", "c")), Regression()]


@pytest.mark.parametrize("task", TASKS, ids=["binary", "several classes", "regression"])
def test_cuts_order_and_restarts_change_nothing(task: Task) -> None:
    matches = _all_kinds(task)
    plain, other = _watch(USERS, task), _watch(USERS, task)
    plain.add_matches(matches)
    order = np.random.default_rng(8).permutation(len(matches))
    for part in np.array_split(order, 7):
        chosen = np.zeros(len(matches), bool)
        chosen[part] = True
        other.add_matches(matches.only(chosen))

    for day in range(1, 7):
        content, arrays = other.snapshot()
        other = _watch(USERS, task)
        other.load(content, arrays)
        expected, found = plain.close(LIVE, day * DAY), other.close(LIVE, day * DAY)
        assert len(expected) > 10
        assert found == expected
        for watch in (plain, other):
            watch.forget((day - 1) * DAY)


@pytest.mark.parametrize("task", TASKS, ids=["binary", "several classes", "regression"])
def test_a_calibrated_model_has_figures_within_their_intervals(task: Task) -> None:
    watch = _watch(task=task)
    watch.add_matches(_all_kinds(task))
    told = _by(watch.close(LIVE, 2 * DAY), "label")

    assert ("auc" in told) is isinstance(task, Binary)
    for found in told.values():
        metric = found.metric
        assert metric.low is not None, metric.metric
        assert metric.high is not None, metric.metric
        assert metric.low <= metric.value <= metric.high, metric.metric
    assert told["calibration_gap"].metric.low == 0
    assert told["expected_calibration_error"].metric.value < 0.06
