import numpy as np
import pytest

from serving.alerting.finding import Finding
from serving.fairness.names import FAIRNESS_METRICS
from serving.fairness.watch import FairnessWatch
from serving.monitoring.groups import Groups
from serving.monitoring.judging import LiveModel
from serving.monitoring.matching import Matches
from serving.spec import Fairness
from streams.errors import DefinitionError
from tests.serving.performance.matched import DAY, calibrated, groups_of, matches_of
from training.networks.tasks import Binary, MultiClass, Regression, Task

MONITOR = Fairness(window="30d", minimum=200)
LIVE = LiveModel(3)
USERS = ["guest", "member", "staff"]


def _groups() -> Groups:
    return groups_of(user=USERS, town=["here", "there"])


def _watch(monitor: Fairness = MONITOR, task: Task | None = None) -> FairnessWatch:
    return FairnessWatch(monitor, task or Binary(), DAY, _groups())


def _matches(factor: float, n: int = 4_000, seed: int = 1, version: int = 3) -> Matches:
    """Guests' scores are ``factor`` times what they should be; staff are too few to be judged."""
    scores, labels = calibrated(n, seed)
    rng = np.random.default_rng(seed)
    users = np.where(rng.random(n) < 0.02, 2, rng.integers(0, 2, n))
    groups = np.stack([users, rng.integers(0, 2, n)], axis=1)
    arrived = rng.integers(0, 30 * DAY, n)
    scores = np.where(users == 0, scores * factor, scores)
    return matches_of(scores, labels, arrived, versions=version, groups=groups)


def _told(findings: list[Finding]) -> dict[tuple[str, str | None], Finding]:
    return {(f.metric.metric, f.metric.group): f for f in findings}


def test_a_group_that_is_selected_less_is_named_beside_the_one_that_is_most() -> None:
    watch = _watch()
    watch.add_matches(_matches(0.6))

    told = _told(watch.close(LIVE, 30 * DAY))

    ratio = told["selection_ratio", "user=guest"]
    guest = told["selection_rate", "user=guest"].metric
    member = told["selection_rate", "user=member"].metric
    assert ratio.metric.value == pytest.approx(guest.value / member.value)
    assert ratio.metric.threshold == 0.8
    assert ratio.excess is not None
    assert ratio.excess > 1
    assert ratio.chance is not None
    assert ratio.chance < 1e-6
    assert f"selects {guest.value:.1%} of user=guest and" in str(ratio.cause)
    assert told["selection_ratio", "user=member"].excess == 0
    apart = told["true_positive_rate_difference", "user"]
    assert apart.excess == pytest.approx(apart.metric.value / 0.1)
    assert "for user=guest and" in str(apart.cause)
    gap = told["group_calibration_gap", "user=guest"].metric
    assert gap.low is not None
    assert gap.high is not None
    assert 0 < gap.low < gap.value < gap.high
    assert all(f.metric.metric in FAIRNESS_METRICS for f in told.values())


def test_groups_treated_alike_are_calm_and_small_ones_are_left_out() -> None:
    watch = _watch()
    watch.add_matches(_matches(1.0))

    told = _told(watch.close(LIVE, 30 * DAY))

    assert ("selection_rate", "user=guest") in told
    assert ("selection_rate", "town=there") in told
    assert not any(group == "user=staff" for _, group in told)
    assert all(f.excess is None or f.excess < 1 for f in told.values())


def test_only_the_version_live_may_alarm() -> None:
    watch = _watch()
    watch.add_matches(_matches(0.6, version=4))
    watch.add_matches(_matches(0.6, version=0))

    findings = watch.close(LIVE, 30 * DAY)

    assert {f.metric.model_version for f in findings} == {0, 4}
    assert all((f.excess, f.chance, f.cause) == (None, None, None) for f in findings)
    assert all(f.excess is None for f in watch.close(LiveModel(0), 30 * DAY))
    assert any(f.excess for f in watch.close(LiveModel(4), 30 * DAY))


def test_thresholds_that_are_none_raise_nothing() -> None:
    watch = _watch(Fairness(ratio=None, gap=None, calibration_gap=None))
    watch.add_matches(_matches(0.5))
    findings = watch.close(LIVE, 30 * DAY)
    assert any(f.metric.metric == "selection_ratio" for f in findings)
    assert all(f.excess is None and f.metric.threshold is None for f in findings)


def test_the_decision_and_the_fields_are_those_declared() -> None:
    watch = _watch(Fairness(decision=0.9, groups=("town",)))
    matches = _matches(1.0)
    watch.add_matches(matches)

    told = _told(watch.close(LIVE, 30 * DAY))

    assert {str(group).partition("=")[0] for _, group in told} == {"town"}
    here = matches.groups[:, 1] == 0
    rate = told["selection_rate", "town=here"].metric.value
    assert rate == pytest.approx(np.mean(matches.scores[here] >= 0.9))


@pytest.mark.parametrize("fields", [{}, {"town": ["here"]}], ids=["none", "another"])
def test_groups_that_nobody_declares_are_refused(fields: dict[str, list[str]]) -> None:
    with pytest.raises(DefinitionError, match=r"lacks (any|user)"):
        FairnessWatch(
            Fairness(groups=("user",) if fields else None), Binary(), DAY, groups_of(**fields)
        )


def _of_task(task: Task) -> Matches:
    matches = _matches(1.0)
    rng, n = np.random.default_rng(5), len(matches)
    if isinstance(task, Binary):
        return matches
    guests = matches.groups[:, 0] == 0
    if isinstance(task, MultiClass):
        scores = rng.dirichlet([1, 2, 3], n)
        labels = (rng.random((n, 1)) > np.cumsum(scores, axis=1)).sum(axis=1).astype(np.float64)
        scores[guests] = scores[guests][:, ::-1]
    else:
        scores = np.column_stack([rng.normal(size=n), rng.uniform(0.5, 2, n)])
        labels = scores[:, 0] + scores[:, 1] * (rng.normal(size=n) + guests)
    return matches_of(scores, labels, matches.label_times_ms, groups=matches.groups)


TASKS: list[Task] = [Binary(), MultiClass(("a", "b", "c")), Regression()]


@pytest.mark.parametrize("task", TASKS, ids=["binary", "several classes", "regression"])
def test_cuts_order_and_restarts_change_nothing(task: Task) -> None:
    matches = _of_task(task)
    plain, other = _watch(task=task), _watch(task=task)
    plain.add_matches(matches)
    for part in np.array_split(np.random.default_rng(8).permutation(len(matches)), 5):
        chosen = np.zeros(len(matches), bool)
        chosen[part] = True
        other.add_matches(matches.only(chosen))
        content, arrays = other.snapshot()
        other = _watch(task=task)
        other.load(content, arrays)

    found = other.close(LIVE, 30 * DAY)

    assert found == plain.close(LIVE, 30 * DAY)
    assert len(found) > 5
    other.forget(30 * DAY)
    assert other.close(LIVE, 31 * DAY) == []


def test_a_class_and_a_regression_are_compared_in_their_own_figures() -> None:
    several, regression = _watch(task=TASKS[1]), _watch(task=TASKS[2])
    several.add_matches(_of_task(TASKS[1]))
    regression.add_matches(_of_task(TASKS[2]))

    by_class = several.close(LIVE, 30 * DAY)
    error = _told(regression.close(LIVE, 30 * DAY))["mean_error_difference", "user"]

    assert {f.metric.feature for f in by_class} == {"a", "b", "c"}
    causes = [str(f.cause) for f in by_class if f.cause and f.metric.feature == "c"]
    assert any("true positive rate of model 3 for class c is" in cause for cause in causes)
    assert all(f.excess is None for f in by_class if f.metric.metric == "selection_ratio")
    assert error.metric.value == pytest.approx(1, abs=0.2)
    assert "spreads apart, above 0.1" in str(error.cause)


def test_calibration_is_judged_by_a_bound_of_its_own() -> None:
    watch = _watch(Fairness(ratio=None, gap=None, calibration_gap=0.05))
    watch.add_matches(_matches(0.6))

    told = _told(watch.close(LIVE, 30 * DAY))

    apart = told["calibration_gap_difference", "user"]
    assert apart.metric.threshold == 0.05
    assert apart.excess == pytest.approx(apart.metric.value / 0.05)
    for name in ("true_positive_rate_difference", "false_positive_rate_difference"):
        assert told[name, "user"].excess is None
    assert told["selection_ratio", "user=guest"].excess is None


@pytest.mark.parametrize(("days", "judged"), [(4, False), (5, True)])
def test_groups_are_judged_once_their_days_say_how_they_differ(days: int, judged: bool) -> None:
    watch = _watch()
    matches = _matches(0.6)
    watch.add_matches(matches.only(matches.label_times_ms < days * DAY))

    told = _told(watch.close(LIVE, 30 * DAY))

    for key in (("selection_ratio", "user=guest"), ("calibration_gap_difference", "user")):
        assert (told[key].excess is not None) == judged
        assert told[key].metric.low is not None
        assert told[key].metric.threshold is not None


def test_a_window_of_few_steps_is_judged_when_it_is_whole() -> None:
    watch = _watch(Fairness(window="2d", minimum=50))
    matches = _matches(0.6)
    watch.add_matches(matches.only(matches.label_times_ms < 2 * DAY))

    one, two = (_told(watch.close(LIVE, day * DAY)) for day in (1, 2))

    assert one["selection_ratio", "user=guest"].excess is None
    assert two["selection_ratio", "user=guest"].excess is not None
