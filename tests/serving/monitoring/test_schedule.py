import pytest

from serving.alerting.alarms import Raised
from serving.alerting.declared import Policy
from serving.alerting.grouping import Told
from serving.monitoring.schedule import Decision, decide, retraining_cause
from tests.serving.alerting.figures import figure
from training.spec import Training

DAY = 86_400_000
TRAINING = Training(first_after="30d", every="7d", cooldown="3d")
DRIFT = "PSI of x is 0.4"


def _decide(
    day: float,
    last: int | None = None,
    cause: str | None = None,
    model: bool = True,
    training: Training = TRAINING,
) -> Decision:
    return decide(
        training,
        end_ms=int(day * DAY),
        first_step_ms=0,
        last_cutoff_ms=None if last is None else last * DAY,
        model_exists=model,
        alert_cause=cause,
    )


@pytest.mark.parametrize(("day", "reason"), [(29, None), (30, "schedule"), (31, "schedule")])
def test_the_first_training_comes_after_its_time(day: int, reason: str | None) -> None:
    assert _decide(day, model=False).reason == reason


def test_an_alert_does_not_cause_the_first_training() -> None:
    decision = _decide(29, cause=DRIFT, model=False)

    assert decision == Decision(None, "none: no model has been trained yet")


@pytest.mark.parametrize(("day", "reason"), [(36, None), (37, "schedule"), (40, "schedule")])
def test_the_schedule_counts_from_the_last_cut_off(day: int, reason: str | None) -> None:
    assert _decide(day, last=30).reason == reason


def test_an_alert_asks_for_a_training_once_the_cool_down_is_over() -> None:
    assert _decide(33, last=30, cause=DRIFT) == Decision(f"alert: {DRIFT}", "retrain")


def test_within_the_cool_down_an_alert_says_until_when() -> None:
    decision = _decide(32, last=30, cause=DRIFT)

    assert decision == Decision(None, "none: cool-down until 1970-02-03T00:00:00Z")


def test_the_cool_down_does_not_hold_the_schedule_back() -> None:
    training = Training(first_after="30d", every="2d", cooldown="3d")

    assert _decide(32, last=30, training=training).reason == "schedule"


def test_without_a_schedule_only_alerts_ask() -> None:
    training = Training(first_after="30d", every=None, cooldown="3d")

    assert _decide(300, last=30, training=training).reason is None
    assert _decide(300, last=30, cause=DRIFT, training=training).reason == f"alert: {DRIFT}"


def test_before_a_first_model_is_live_an_alert_asks_for_nothing() -> None:
    decision = _decide(35, last=30, cause=DRIFT, model=False)

    assert decision == Decision(None, "none: no model is live yet")


def test_what_asks_for_a_retraining_is_what_was_just_told_else_what_stands() -> None:
    told = Told("k", "confirmed", "warning", figure("told"))
    unfair = Told("f", "confirmed", "warning", figure("unfair", kind="fairness"))
    standing = [figure("stands"), figure("beside")]

    def cause(*of: Told) -> str | None:
        return retraining_cause((Policy("retrain"),), Raised([], list(of), standing))

    assert cause(told, unfair) == "PSI of told is 0.5"
    # What no policy is about must not hide what one is about.
    assert cause(unfair) == cause() == "PSI of stands is 0.5 (and 1 more)"
    assert retraining_cause((Policy("roll back"),), Raised([], [told], standing)) is None
