"""Prediction drift: when a version's scores are judged."""

from dataclasses import replace

import numpy as np

from serving.alerting.finding import Finding
from serving.monitoring.judging import LiveModel
from serving.monitoring.prediction_watch import PredictionDriftWatch
from serving.monitoring.watch import Answered
from serving.spec import PredictionDrift
from tests.serving.monitored import DAY, DEFINITION, START, feature_rows
from training.dispersion import Dispersion
from training.networks.tasks import Binary, MultiClass, Regression
from training.reference import Reference
from training.score_reference import CELLS, score_counts

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


def test_scores_that_move_by_themselves_need_more_to_be_beyond_chance() -> None:
    watch = PredictionDriftWatch(PredictionDrift(window="3d"), Binary(), DAY)
    for day in range(3):
        watch.add_answers(_answered(day, 1, low=False))
    live = _live(1)
    assert live.reference is not None
    moves = Dispersion((DAY,), (200.0,), (1.0,), (7,), (float(A_DAY),))
    moving = replace(live.reference, score_dispersions={"score": moves})
    end_ms = START + 3 * DAY

    steady, unsteady = (
        next(iter(watch.close(replace(live, reference=each), end_ms)))
        for each in (live.reference, moving)
    )

    assert steady.metric.value == unsteady.metric.value
    assert steady.chance is not None
    assert unsteady.chance is not None
    assert steady.chance < 1e-10 < 0.01 < unsteady.chance


def test_too_few_answers_no_reference_or_another_version_say_nothing() -> None:
    watch = PredictionDriftWatch(PredictionDrift(window="3d", minimum=3 * A_DAY), Binary(), DAY)
    end_ms = START + 3 * DAY
    for day in range(2):
        watch.add_answers(_answered(day, 1, low=True))
    assert watch.close(_live(1), end_ms) == []
    watch.add_answers(_answered(2, 1, low=True))
    live = _live(1)
    assert live.reference is not None

    assert {each.metric.metric for each in watch.close(live, end_ms)} == {"psi", "ks"}
    assert watch.close(_live(2), end_ms) == []
    assert watch.close(LiveModel(1), end_ms) == []
    for scores in ({}, {"score": np.zeros(CELLS, np.int64)}):
        bare = replace(live.reference, scores=scores)
        assert watch.close(replace(live, reference=bare), end_ms) == []


def test_of_several_classes_the_answers_are_compared_too_and_of_a_number_nothing() -> None:
    task = MultiClass(("bike", "dock", "none"))
    random = np.random.default_rng(0)
    usual, now = (random.dirichlet(shares, 1_200) for shares in ((9, 3, 1), (3, 9, 1)))
    live = _live(1)
    assert live.reference is not None
    reference = live.reference.with_scores(score_counts(task, usual), None)
    times = START + np.arange(1_200) * (DAY // 400)
    watch = PredictionDriftWatch(PredictionDrift(window="3d"), task, DAY)
    watch.add_answers(Answered(now, np.ones(1_200, np.int64), times))

    found = watch.close(replace(live, reference=reference), START + 3 * DAY)

    by_feature = {each.metric.feature: each for each in found if each.metric.metric == "psi"}
    assert by_feature.keys() == {"score", "class"}
    assert by_feature["class"].cause is not None
    assert by_feature["class"].cause.startswith("PSI of the answers is ")
    assert by_feature["class"].bins[0].bin in ("bike", "dock")
    assert by_feature["class"].onset is not None
    assert by_feature["class"].metric.observed is not None
    assert len(by_feature["class"].metric.observed) == 3
    assert by_feature["score"].excess is not None
    assert by_feature["score"].excess < 1  # as sure as ever, of something else

    numbers = PredictionDriftWatch(PredictionDrift(window="3d"), Regression(), DAY)
    numbers.add_answers(Answered(np.zeros((1_200, 2)), np.ones(1_200, np.int64), times))
    assert numbers.close(live, START + 3 * DAY) == []
