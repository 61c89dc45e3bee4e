"""The summary's arithmetic, on cases small enough to do by hand."""

import math

import numpy as np
import pytest

from serving.summary import Answers, Labels, after_first_training, last_label_score, periods, score
from streams.wire import Alert, Window
from training.networks.tasks import MultiClass, Regression

HOUR_MS = 3_600_000
JAN_31_2020_23H = 1_580_511_600_000  # 2020-01-31 23:00 UTC


def answers(ids: list[str], scores: list[float], versions: list[int], times: list[int]) -> Answers:
    return Answers(ids, np.array(scores), np.array(versions), np.array(times))


def labels(ids: list[str], targets: list[float], known: list[int]) -> Labels:
    return Labels(ids, np.array(targets), np.array(known))


def alert(end_ms: int) -> Alert:
    return Alert(
        alert_id="a", kind="data_drift", metric="psi", feature="x", value=1.0, threshold=0.25, n=9,
        window=Window(end_ms - 1, end_ms), model_version=1, cause="", offsets={}, action="none",
    )  # fmt: skip


def test_scores_are_means_over_the_labelled() -> None:
    result = score(np.array([0.8, 0.4, 0.9]), np.array([1.0, 0.0, np.nan]))
    assert result.n == 2
    assert result.brier == pytest.approx((0.2**2 + 0.4**2) / 2)
    assert result.log_loss == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    assert result.accuracy == 1.0


def test_nothing_labelled_gives_no_figures() -> None:
    assert score(np.array([0.5]), np.array([np.nan])).brier is None


def test_a_sure_and_wrong_answer_has_a_finite_log_loss() -> None:
    result = score(np.array([1.0]), np.array([0.0]))
    assert result.log_loss is not None
    assert math.isfinite(result.log_loss)


def test_months_follow_the_pipelines_time_zone() -> None:
    long_ago = JAN_31_2020_23H - 80 * 24 * HOUR_MS
    at = [long_ago, JAN_31_2020_23H, JAN_31_2020_23H + 2 * HOUR_MS]
    live = answers(["o", "a", "b"], [0.5] * 3, [0, 0, 1], at)
    truth = labels(["o", "a", "b"], [1.0] * 3, at)
    utc = periods({"live": live}, truth, [alert(at[2])], "UTC", None)
    assert [(r["period"], r["events"], r["alerts"]) for r in utc] == [
        ("2019-11", 1, 0),
        ("2020-01", 1, 0),
        ("2020-02", 1, 1),
    ]
    new_york = periods({"live": live}, truth, [], "America/New_York", None)
    assert [(r["period"], r["versions"]) for r in new_york] == [
        ("2019-11", [0]),
        ("2020-01", [0, 1]),
    ]


def test_a_short_run_is_told_by_weeks_that_begin_on_monday() -> None:
    at = [JAN_31_2020_23H, JAN_31_2020_23H + 60 * HOUR_MS]  # a Friday, the Monday after
    live = answers(["a", "b"], [0.5, 0.5], [0, 1], at)
    rows = periods({"live": live}, labels(["a", "b"], [1.0, 1.0], at), [], "UTC", None)
    assert [row["period"] for row in rows] == ["2020-01-27", "2020-02-03"]


def test_a_column_without_answers_in_a_period_has_no_score() -> None:
    live = answers(["a"], [0.5], [1], [JAN_31_2020_23H])
    none = answers([], [], [], [])
    (row,) = periods({"live": live, "first": none}, labels(["a"], [1.0], [0]), [], "UTC", None)
    assert row["first"]["n"] == 0
    assert row["first"]["brier"] is None


def test_the_first_label_of_an_event_counts() -> None:
    assert labels(["a", "a"], [1.0, 0.0], [1, 2]).by_event() == {"a": 1.0}


def test_the_no_change_rule_knows_only_labels_that_had_arrived() -> None:
    live = answers(["a", "b", "c"], [0.5] * 3, [0] * 3, [10, 20, 30])
    truth = labels(["a", "b", "c"], [1.0, 0.0, 0.0], [20, 30, 40])
    # Before 20 nothing is known; at 20 the rule says 1 (wrong), at 30 it says 0 (right).
    result = last_label_score(live, truth, truth.by_event())
    assert (result.n, result.accuracy) == (2, 0.5)


def test_scores_after_the_first_training_leave_the_prior_out() -> None:
    live = answers(["a", "b"], [0.1, 0.9], [0, 1], [10, 20])
    truth = labels(["a", "b"], [1.0, 1.0], [15, 25])
    result = after_first_training(live, truth, "last_label")
    assert result["live"] == {
        "n": 1, "brier": pytest.approx(0.01), "log_loss": pytest.approx(-math.log(0.9)),
        "accuracy": 1.0,
    }  # fmt: skip
    assert result["no_change"]["accuracy"] == 1.0


def test_other_tasks_are_summed_up_by_their_own_scores() -> None:
    at = [JAN_31_2020_23H, JAN_31_2020_23H + HOUR_MS]
    truth = labels(["a", "b"], [0.0, 2.0], at)
    classes = MultiClass(("x", "y", "z"))
    rows = np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]])
    live = Answers(["a", "b"], rows, np.ones(2, np.int64), np.array(at))
    found = after_first_training(live, truth, "last_label", classes)
    assert found["live"]["accuracy"] == 0.5
    assert found["live"]["log_loss"] == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert found["no_change"]["accuracy"] == 1.0
    told = np.array([[1.0, 1.0], [1.0, np.nan]])
    numbers = Answers(["a", "b"], told, np.ones(2, np.int64), np.array(at))
    (row,) = periods({"live": numbers}, truth, [], "UTC", "last_label", Regression())
    assert (row["live"]["n"], row["live"]["rmse"]) == (1, 1.0)
    assert row["live"]["crps"] is not None
    assert row["live"]["brier"] is row["live"]["accuracy"] is None
    assert (row["no_change"]["n"], row["no_change"]["rmse"]) == (2, 0.0)
