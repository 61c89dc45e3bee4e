"""What the watch tells of windows, slices, versions and days, beside scikit-learn on the pairs."""

import importlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.monitoring.judging import LiveModel
from serving.monitoring.matching import Matches
from serving.performance.watch import PerformanceWatch
from serving.spec import Performance
from streams.wire import Metric
from tests.serving.performance.matched import groups_of, matches_of
from training.networks.tasks import Binary

_METRICS: Any = importlib.import_module("sklearn.metrics")  # they have no types
_CALIBRATION: Any = importlib.import_module("sklearn.calibration")

DAY = 86_400_000
USERS = ["guest", "member"]
Mask = NDArray[np.bool_]


@pytest.fixture(scope="module")
def matches() -> Matches:
    rng = np.random.default_rng(5)
    n = 12_000
    scores = rng.beta(2, 5, n)
    labels = (rng.random(n) < np.clip(scores * 1.2, 0, 1)).astype(np.float64)
    happened = rng.integers(0, 5 * DAY, n)
    arrived = happened + rng.choice([3_600_000, 2 * DAY], n, p=[0.8, 0.2])
    users = rng.integers(0, 2, (n, 1))
    return matches_of(scores, labels, arrived, happened, rng.integers(3, 5, n), users)


def _close(matches: Matches, days: int) -> list[list[Metric]]:
    watch = PerformanceWatch(Performance(window="3d"), Binary(), DAY, groups_of(user=USERS))
    watch.add_matches(matches)
    live = LiveModel(4, {}, {"log_loss": 0.5})
    return [[f.metric for f in watch.close(live, day * DAY)] for day in range(1, days + 1)]


def _expected(matches: Matches, chosen: Mask) -> dict[str, tuple[float, float]]:
    """Return the name of a figure → (scikit-learn's value, how far bins may be off)."""
    scores, labels = matches.scores[chosen], matches.labels[chosen]
    shares, means = _CALIBRATION.calibration_curve(labels, scores, n_bins=10)
    weights = np.histogram(scores, np.linspace(0, 1, 11))[0]
    error = float(np.average(np.abs(shares - means), weights=weights[weights > 0]))
    return {
        "log_loss": (_METRICS.log_loss(labels, scores), 1e-6),
        "brier": (_METRICS.brier_score_loss(labels, scores), 1e-6),
        "accuracy": (_METRICS.accuracy_score(labels, scores >= 0.5), 1e-9),
        "auc": (_METRICS.roc_auc_score(labels, scores), 2e-3),
        "average_precision": (_METRICS.average_precision_score(labels, scores), 4e-3),
        "calibration_gap": (abs(float(scores.mean() - labels.mean())), 1e-6),
        "expected_calibration_error": (error, 1e-6),
    }


def _compare(told: dict[str, Metric], matches: Matches, chosen: Mask) -> None:
    for name, (value, off) in _expected(matches, chosen).items():
        if name in told:
            figure = told[name]
            assert figure.n == chosen.sum()
            assert figure.value == pytest.approx(value, abs=off), name
            assert figure.low is not None
            assert figure.high is not None
            assert figure.low <= figure.value <= figure.high


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("user", [None, *USERS])
def test_a_window_of_a_slice_and_a_version(
    matches: Matches, version: int, user: str | None
) -> None:
    group = None if user is None else f"user={user}"
    for end, metrics in enumerate(_close(matches, 5), 1):
        told = {
            m.metric: m
            for m in metrics
            if (m.by, m.group, m.model_version) == ("label", group, version)
        }
        assert len(told) == 7
        chosen = matches.versions == version
        chosen &= (matches.label_times_ms < end * DAY) & (matches.label_times_ms >= (end - 3) * DAY)
        if user is not None:
            chosen &= matches.groups[:, 0] == USERS.index(user)
        _compare(told, matches, chosen)


def test_a_day_of_events_is_told_again_with_the_labels_that_have_come_since(
    matches: Matches,
) -> None:
    day, told_again = 1, 0
    for end, metrics in enumerate(_close(matches, 7), 1):
        told = {
            m.metric: m
            for m in metrics
            if (m.by, m.group, m.model_version) == ("event", None, 4)
            and m.window.start_ms == day * DAY
        }
        if not told:
            continue
        assert {m.restated for m in told.values()} == {told_again}
        assert len(told) == 7
        told_again += 1
        of_day = matches.event_times_ms // DAY == day
        chosen = of_day & (matches.versions == 4) & (matches.label_times_ms < end * DAY)
        _compare(told, matches, chosen)
    assert told_again == 3  # of the same day, of the next one's first hour, of two days later
