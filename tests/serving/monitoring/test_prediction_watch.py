"""Prediction drift: when a version's scores are judged."""

import numpy as np

from serving.alerting.finding import Finding
from serving.monitoring.judging import LiveModel
from serving.monitoring.prediction_watch import PredictionDriftWatch
from serving.monitoring.watch import Answered
from serving.spec import PredictionDrift
from tests.serving.monitored import DAY, DEFINITION, START, feature_rows
from training.networks.tasks import Binary
from training.reference import Reference
from training.score_reference import score_counts

A_DAY = 400


def _live(version: int) -> LiveModel:
    """Return a version whose scores were low in validation."""
    rows = feature_rows(0, [START + i for i in range(600)], [0.0] * 600)
    scores = np.random.default_rng(1).beta(2, 8, 5_000)
    reference = Reference.from_rows([rows], DEFINITION).with_scores(
        score_counts(Binary(), scores), np.zeros((0, 3))
    )
    return LiveModel(version, reference.expected, {}, reference)


def _answered(day: int, version: int, low: bool) -> Answered:
    random = np.random.default_rng(day)
    scores = random.beta(2, 8, A_DAY) if low else random.beta(8, 2, A_DAY)
    times = START + day * DAY + np.sort(random.integers(0, DAY, A_DAY))
    return Answered(scores, np.full(A_DAY, version), times)


def _psi(watch: PredictionDriftWatch, version: int, day: int) -> Finding:
    """Return the figure of the window that ends with ``day``."""
    found = watch.close(_live(version), START + (day + 1) * DAY)
    return next(f for f in found if f.metric.metric == "psi")


def test_a_version_is_judged_once_it_has_answered_for_a_whole_window() -> None:
    watch = PredictionDriftWatch(PredictionDrift(window="3d"), Binary(), DAY)
    judged = []
    for day in range(6):
        version = 1 if day < 1 else 2  # 2 answers from the second day on
        watch.add_answers(_answered(day, version, low=False))
        if day >= 2:
            kept = PredictionDriftWatch(PredictionDrift(window="3d"), Binary(), DAY)
            kept.load(*watch.snapshot())  # as after a restart
            watch = kept
            figure = _psi(watch, 2, day)
            assert figure.metric.value > 0.25  # told all along
            judged.append(figure.excess is not None)
        watch.forget(START + (day - 2) * DAY)

    assert judged == [False, True, True, True]


def test_scores_as_in_validation_are_within_bounds_and_others_are_not() -> None:
    for low in (True, False):
        watch = PredictionDriftWatch(PredictionDrift(window="3d"), Binary(), DAY)
        for day in range(3):
            watch.add_answers(_answered(day, 1, low))

        figure = _psi(watch, 1, 2)

        assert figure.excess is not None
        assert figure.chance is not None
        assert (figure.excess < 1, figure.chance > 0.001) == (low, low)
