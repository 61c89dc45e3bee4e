"""The benchmarks of data drift at a small size: they run, and what they count is what it says."""

import json

import numpy as np
import pytest

from benchmarks.drift_speed import measure
from benchmarks.false_alarms import (
    CALM_DAYS,
    CHANGED_DAYS,
    CHANGES,
    PER_DAY,
    WEEKS_PER_COURSE,
    Counted,
    Course,
    Process,
)


def test_a_course_is_calm_until_its_change_which_is_found() -> None:
    counted = Counted()
    counted.take(Course(0))
    figures = counted.figures()

    assert figures["weeks"] == WEEKS_PER_COURSE
    assert figures["knob_0.1_alerts_per_week"] == 0
    assert figures["knob_0.1_closings_by_chance_if_independent_per_week"] == 7
    assert figures["shifted_found"] == 1
    assert 2 <= figures["shifted_found_after_days"] <= 7
    assert "new_texts_found" not in figures


def test_a_course_is_the_same_again_and_changes_when_it_says() -> None:
    one, other = ([rows.numeric for _, rows, _ in Course(1).days()] for _ in range(2))
    np.testing.assert_array_equal(np.stack(one), np.stack(other))
    assert len(one) == CALM_DAYS + CHANGED_DAYS
    assert Course(1).changed == list(CHANGES)[1]
    missing = [np.isnan(day[:, 20]).mean() for day in one]
    assert np.mean(missing[:CALM_DAYS]) == pytest.approx(0.2, abs=0.02)
    assert np.mean(missing[CALM_DAYS:]) == pytest.approx(0.4, abs=0.03)


def test_what_wanders_is_stationary() -> None:
    process = Process(3)
    means = np.array([process.day()[0].numeric[:, 35:].mean(axis=0) for _ in range(600)])
    assert means.std() == pytest.approx(np.sqrt(0.25 + 1 / PER_DAY), rel=0.15)
    assert np.abs(means[:300].mean() - means[300:].mean()) < 0.2


def test_the_speed_is_told_with_its_goal(capsys: pytest.CaptureFixture[str]) -> None:
    measure(rows=200, reference_rows=500, features=5, peer=False, as_json=True)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["goals_met"] is True
    assert told["figures"]["psi_and_ks_s"] == pytest.approx(
        told["figures"]["psi_s"] + told["figures"]["ks_presorted_s"]
    )
