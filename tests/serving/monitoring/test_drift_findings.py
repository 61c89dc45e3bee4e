"""What is said of one feature's comparison: which figures, which of them may alarm, and why."""

import numpy as np
import pytest

from serving.alerting.finding import Finding
from serving.drift.drift import Drift
from serving.monitoring.drift_findings import SHARE, findings_of, severity_of
from streams.wire import Onset, ShiftedBin, Window

WINDOW = Window(0, 1_000)
BEGAN = Onset(500)
MOST = ShiftedBin("9 to 12", 0.1, 0.3)


def _drift(**more: object) -> Drift:
    told = {
        "feature": "hour", "n": 1_200, "n_reference": 9_000, "psi": 0.05, "critical": 0.02,
        "chance": 0.4, "chi_squared": 3.0, "effect": 0.1, "bins": 10, **more,
    }  # fmt: skip
    return Drift(**told)  # type: ignore[arg-type]


def _told(drift: Drift, group: str | None = None) -> dict[str, Finding]:
    found = findings_of(
        drift, kind="data_drift", threshold=0.25, window=WINDOW, version=4,
        observed=np.array([700, 500]), onset=lambda: BEGAN, group=group,
    )  # fmt: skip
    return {each.metric.metric: each for each in found}


def test_a_calm_feature_has_figures_without_a_cause() -> None:
    found = _told(_drift(ks=0.1, ks_chance=0.3, wasserstein=0.2))

    assert list(found) == ["psi", "ks"]
    psi, ks = found.values()
    assert psi.excess == pytest.approx(0.2)
    assert (psi.chance, psi.cause, psi.bins, psi.onset) == (0.4, None, (), None)
    assert (psi.metric.value, psi.metric.threshold, psi.metric.effect) == (0.05, 0.25, 0.1)
    assert (psi.metric.observed, psi.metric.n) == ((700, 500), 1_200)
    assert (psi.metric.window, psi.metric.model_version) == (WINDOW, 4)
    assert (ks.excess, ks.chance, ks.metric.value, ks.metric.effect) == (None, 0.3, 0.1, 0.2)


def test_a_large_psi_says_why_where_and_since_when() -> None:
    found = _told(_drift(psi=0.5, chance=1e-9, shifted=(MOST,)), group="user=guest")["psi"]

    assert found.excess == 2
    assert found.cause == (
        "PSI of hour where user=guest is 0.5, above 0.25 and above 0.02 that chance gives at "
        "n=1,200; most at 9 to 12: 10.0% to 30.0%"
    )
    assert (found.bins, found.onset, found.severity) == ((MOST,), BEGAN, "warning")
    assert found.metric.group == "user=guest"
    assert [severity_of(excess) for excess in (1.0, 3.9, 4.0)] == ["warning"] * 2 + ["critical"]


def test_a_cause_does_not_claim_more_than_chance_gives_where_that_is_not_so() -> None:
    cause = _told(_drift(psi=0.431, critical=0.508, chance=2e-5))["psi"].cause

    assert cause == (
        "PSI of hour is 0.431, above 0.25 and such as chance gives with p=2e-05 at n=1,200"
    )


def test_missing_values_alarm_in_either_direction_from_a_change_of_the_share_on() -> None:
    for share, bound, excess in ((0.3, 0.25, 2.0), (0.1, 0.15, 2.0), (0.21, 0.25, 0.2)):
        drift = _drift(missing=share, missing_reference=0.2, missing_chance=1e-6)
        found = _told(drift)["missing_rate"]
        assert found.excess == pytest.approx(excess)
        assert found.metric.value == share
        assert found.metric.threshold == pytest.approx(bound)
        assert found.chance == 1e-6
        assert (found.onset is BEGAN) == (excess >= 1) == (found.cause is not None)
    assert (
        _told(_drift(missing=0.3, missing_reference=0.2, missing_chance=0.0))["missing_rate"].cause
        == "30.0% of hour are missing, 20.0% in training (n=1,200)"
    )


def test_new_values_alarm_only_where_there_are_more() -> None:
    more = _told(_drift(new=0.08, new_reference=0.01, new_chance=1e-8))["new_values"]
    fewer = _told(_drift(new=0.01, new_reference=0.5, new_chance=1.0))["new_values"]

    assert more.excess == pytest.approx(0.07 / SHARE)
    assert more.cause == "8.0% of hour are values that training did not have (n=1,200)"
    assert fewer.excess is not None
    assert fewer.excess < 0
    assert fewer.cause is None


def test_shares_that_are_nowhere_are_not_told() -> None:
    nothing = _drift(missing=0.0, missing_reference=0.0, missing_chance=1.0, new=0.0, new_chance=1)
    assert list(_told(nothing)) == ["psi"]
    gone = _drift(missing=0.0, missing_reference=0.2, missing_chance=1e-9)
    assert _told(gone)["missing_rate"].excess == pytest.approx(4)
