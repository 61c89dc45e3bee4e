import json
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest

from serving.alerting.finding import Finding
from serving.concept.watch import ConceptWatch
from serving.monitoring.judging import LiveModel
from serving.monitoring.matching import Matches
from serving.monitoring.watch import Answered
from serving.spec import ConceptDrift
from tests.serving.concept.made_days import (
    DAY,
    DECLARED,
    HOUR,
    Days,
    feed,
    live_model,
    made_days,
    watch,
)
from training.networks.tasks import MultiClass, Regression, Task

LIVE = live_model()
Value = TypeVar("Value")


def _there(value: Value | None) -> Value:
    assert value is not None
    return value


def _run(
    to: ConceptWatch, given: Days, first: int, last: int, live: LiveModel = LIVE
) -> list[dict[str, Finding]]:
    told = []
    for day in range(first, last):
        feed(to, given, day)
        findings = to.close(live, (day + 1) * DAY)
        told.append({each.metric.metric: each for each in findings})
    return told


def test_a_change_is_found_on_its_day_and_put_at_its_first_labels() -> None:
    given = made_days(16, change=12)
    told = _run(watch(), given, 0, 16)

    before = [day["log_loss_change"] for day in told[1:12]]
    assert all(each.chance is not None and each.chance > 0.01 for each in before)
    found = told[12]["log_loss_change"]
    assert found.kind == "concept_drift"
    assert _there(found.chance) <= 0.01
    assert found.onset is not None
    assert abs(found.onset.time_ms - 12 * DAY) < 6 * HOUR
    at = np.flatnonzero(given.events_ms == found.onset.time_ms)
    assert (found.onset.partition, found.onset.offset) in [(i % 2, i // 2) for i in at.tolist()]
    later = told[14]["log_loss_change"]  # by labels after the alarm alone
    assert _there(later.excess) >= 1
    assert _there(later.chance) < 1e-6
    assert "since a change in its matched labels" in _there(later.cause)
    assert later.impact == pytest.approx(later.metric.effect)


def test_a_change_that_ends_is_calm_again_and_a_new_one_is_found() -> None:
    first, second = made_days(20, change=10), made_days(20, seed=5)
    labels = np.where(first.events_ms < 13 * DAY, first.labels, second.labels)
    scores = np.where(first.events_ms < 13 * DAY, first.scores, second.scores)
    given = replace(first, scores=scores, labels=labels)
    told = _run(watch(), given, 0, 20)

    assert told[11]["log_loss_change"].onset is not None
    last = told[-1]["log_loss_change"]
    assert last.onset is None
    assert _there(last.excess) < 0.5


def test_calibration_names_the_scores_that_are_off() -> None:
    told = _run(watch(), made_days(16, change=12), 0, 16)

    calm, found = told[11]["calibration_shift"], told[15]["calibration_shift"]
    assert _there(calm.excess) < 1
    assert _there(calm.chance) > 0.001
    assert found.metric.value == pytest.approx(0.25, abs=0.03)
    assert _there(found.chance) < 1e-9
    assert found.bins[0].bin in _there(found.cause)
    assert all(each.observed > each.expected + 0.15 for each in found.bins)


def test_the_estimate_needs_no_labels_and_sees_what_scores_tell() -> None:
    given = made_days(12)
    harder = np.where(given.events_ms >= 8 * DAY, 0.25 + 0.5 * given.scores, given.scores)
    unlabelled = np.full(len(harder), 1_000 * DAY)
    labelled = given.events_ms < 8 * DAY
    delays = np.where(labelled, HOUR, unlabelled)
    late = replace(given, scores=harder, delays_ms=delays)
    told = _run(watch(), late, 0, 12)

    known = LIVE.validation["log_loss"]
    calm, found = told[7]["estimated_log_loss"], told[11]["estimated_log_loss"]
    assert calm.metric.value == pytest.approx(known, rel=0.03)
    assert _there(calm.metric.low) < known < _there(calm.metric.high)
    assert _there(found.excess) >= 1
    assert _there(found.chance) < 1e-9
    assert found.metric.by == "event"


def test_a_model_is_not_estimated_by_its_first_weekend() -> None:
    given = made_days(14)
    harder = np.where(given.events_ms // DAY % 7 >= 5, 0.25 + 0.5 * given.scores, given.scores)
    versions = np.where(given.events_ms >= 5 * DAY, 2, 1)  # live on a Saturday
    days = replace(given, scores=harder, versions=versions)
    to = watch(ConceptDrift(window="7d"))
    _run(to, days, 0, 5)
    told = _run(to, days, 5, 14, live_model(2))

    excess = [day["estimated_log_loss"].excess for day in told]
    assert excess[:5] == [None] * 5
    assert all(0 < _there(each) < 1 for each in excess[6:])  # two hard days of seven


def test_a_model_that_has_long_answered_is_judged_after_a_pause_too() -> None:
    given = made_days(20)
    kept = (given.events_ms < 9 * DAY) | (given.events_ms >= 14 * DAY)
    names = ("scores", "labels", "events_ms", "delays_ms", "versions")
    days = Days(*(getattr(given, name)[kept] for name in names))
    told = _run(watch(), days, 0, 20)
    assert "estimated_log_loss" not in told[12]
    assert told[14]["estimated_log_loss"].excess is not None


def test_as_bad_again_as_in_validation_is_no_harm() -> None:
    given = made_days(16)
    easy = given.events_ms < 12 * DAY
    scores = np.where(easy, 0.3 * given.scores, given.scores)
    rng = np.random.default_rng(1)
    labels = (rng.random(len(scores)) < scores).astype(np.float64)
    told = _run(watch(), replace(given, scores=scores, labels=labels), 0, 16)

    found = told[13]["log_loss_change"]
    assert _there(found.chance) < 1e-6  # it is a change,
    assert _there(found.metric.effect) > 0.2
    assert _there(found.excess) < 0.5  # from better than known to as good as known
    assert told[14]["log_loss_change"].onset is None  # and it is over


def test_labels_that_take_longer_or_stay_away_are_told() -> None:
    given = made_days(20)
    slower = np.where(given.events_ms >= 15 * DAY, 5 * given.delays_ms, given.delays_ms)
    told = _run(watch(), replace(given, delays_ms=slower), 0, 20)
    calm, found = told[14]["label_delay_median_s"], told[-1]["label_delay_median_s"]
    assert calm.excess == pytest.approx(1 / 3, abs=0.05)
    assert _there(found.excess) >= 1
    assert found.chance is None
    assert found.kind == "health"

    gone = np.where(given.events_ms >= 15 * DAY, 900 * DAY, given.delays_ms)
    told = _run(watch(), replace(given, delays_ms=gone), 0, 20)
    calm, found = told[14]["label_overdue_share"], told[-1]["label_overdue_share"]
    assert _there(calm.excess) < 0.2
    assert found.metric.value > 0.9
    assert "have none" in _there(found.cause)


def test_another_version_begins_anew_and_the_prior_is_not_watched() -> None:
    given = made_days(14, change=12)
    to = watch()
    _run(to, given, 0, 13)
    versions = np.where(given.events_ms >= 13 * DAY, 2, 1)
    other = replace(given, versions=versions)
    told = _run(to, other, 13, 14, live_model(2))
    assert "log_loss_change" not in told[0]  # nothing yet to compare with

    names = set(_run(watch(), made_days(4, version=0), 0, 4, LiveModel())[-1])
    assert names == {"label_delay_median_s", "label_delay_p90_s", "label_overdue_share"}


def test_order_and_cuts_of_a_day_change_nothing() -> None:
    given = made_days(14, change=12)
    one, other = watch(), watch()
    for day in range(14):
        feed(one, given, day)
        feed(other, given, day, pieces=7, seed=day + 1)
        end = (day + 1) * DAY
        assert one.close(LIVE, end) == other.close(LIVE, end)


@pytest.mark.parametrize("detector", ["scan", "adwin", "page_hinkley"])
def test_a_snapshot_goes_on_the_same(detector: str) -> None:
    given = made_days(15, change=12)
    declared = ConceptDrift(window="3d", detector=detector)  # type: ignore[arg-type]
    whole = _run(watch(declared), given, 0, 15)
    assert whole[-1]["log_loss_change"].onset is not None

    for cut in (9, 13):
        before = watch(declared)
        _run(before, given, 0, cut)
        feed(before, given, cut)  # what is pending is kept too
        content, arrays = before.snapshot()
        after = watch(declared)
        after.load(json.loads(json.dumps(content)), arrays)
        findings = after.close(LIVE, (cut + 1) * DAY)
        assert {f.metric.metric: f for f in findings} == whole[cut]
        assert _run(after, given, cut + 1, 15) == whole[cut + 1 :]


def test_a_small_change_is_seen_and_does_not_matter() -> None:
    told = _run(watch(), made_days(30, change=20, up=0.03), 0, 30)
    assert all((day["log_loss_change"].excess or 0) < 1 for day in told[1:])


def test_what_was_read_ahead_changes_nothing() -> None:
    given = made_days(16, change=12)
    one, ahead = watch(), watch()
    for day in range(16):
        feed(one, given, day)
        if day == 0:
            feed(ahead, given, 0)
        if day < 15:
            feed(ahead, given, day + 1)
        assert ahead.close(LIVE, (day + 1) * DAY) == one.close(LIVE, (day + 1) * DAY)


def test_without_validation_the_losses_are_watched_all_the_same() -> None:
    told = _run(watch(), made_days(14, change=12), 0, 14, LiveModel(1))
    assert told[12]["log_loss_change"].onset is not None
    assert "calibration_shift" not in told[13]
    estimate = told[13]["estimated_log_loss"]
    assert (estimate.excess, estimate.chance, estimate.metric.threshold) == (None, None, None)
    assert estimate.metric.value == pytest.approx(LIVE.validation["log_loss"], rel=0.05)


def test_answers_without_a_number_are_left_out() -> None:
    given = made_days(14, change=12)
    holes = replace(given, scores=np.where(np.arange(len(given.scores)) % 10, given.scores, np.nan))
    told = _run(watch(), holes, 0, 14)
    for name in ("log_loss_change", "calibration_shift", "estimated_log_loss"):
        assert told[13][name].metric.n <= 2_700
        assert np.isfinite(told[13][name].metric.value)


def test_the_losses_of_another_version_are_not_the_live_ones() -> None:
    given = made_days(14, change=12)
    canary = made_days(14, change=6, seed=3, version=2)  # bad from day 6 on, and never live
    alone, beside = watch(), watch()
    for day in range(14):
        feed(alone, given, day)
        feed(beside, given, day)
        feed(beside, canary, day)
        end = (day + 1) * DAY
        found = {f.metric.metric: f for f in beside.close(LIVE, end)}
        for each in alone.close(LIVE, end):
            if each.kind == "concept_drift":
                assert found[each.metric.metric] == each


def test_a_version_that_goes_live_is_told_of_from_its_first_labels_on() -> None:
    given = made_days(20)
    versions = np.where(given.events_ms >= 10 * DAY + 12 * HOUR, 2, 1)
    to, told = watch(), []
    for day in range(20):
        feed(to, replace(given, versions=versions), day)
        live = LIVE if day < 10 else live_model(2)  # in the middle of a window
        told.append({f.metric.metric: f for f in to.close(live, (day + 1) * DAY)})
    assert "calibration_shift" not in told[10] or told[10]["calibration_shift"].metric.n < 600
    assert told[11]["calibration_shift"].metric.n < 1_600
    assert told[12]["log_loss_change"].metric.model_version == 2
    assert all(day["log_loss_change"].onset is None for day in told[12:])
    assert told[-1]["calibration_shift"].metric.n == pytest.approx(3_000, rel=0.1)


def test_a_window_that_is_a_step_long() -> None:
    told = _run(watch(ConceptDrift(window="1d")), made_days(16, change=12), 0, 16)
    assert told[12]["log_loss_change"].onset is not None
    assert told[14]["log_loss_change"].metric.n == pytest.approx(1_000, rel=0.1)
    assert told[14]["calibration_shift"].metric.n == pytest.approx(1_000, rel=0.1)


def test_figures_without_a_change_are_as_rarely_sure_as_they_say() -> None:
    chances: dict[str, list[float]] = {}
    for seed in range(12):
        told = _run(watch(ConceptDrift(window="1d")), made_days(24, seed=200 + seed), 0, 24)
        for day in told[2:]:
            for name, each in day.items():
                if each.chance is not None:
                    chances.setdefault(name, []).append(each.chance)
    assert set(chances) == {"log_loss_change", "calibration_shift", "estimated_log_loss"}
    for name, found in chances.items():
        assert len(found) > 200, name
        share = float(np.mean(np.array(found) < 0.05))
        assert share < 0.09, name


@pytest.mark.parametrize("task", [Regression(), MultiClass(("a", "b", "c"))])
def test_models_of_other_tasks_are_watched(task: Task) -> None:
    rng = np.random.default_rng(8)
    to = ConceptWatch(DECLARED, task, DAY, level=0.01)
    told, n = [], 1_000
    for day in range(14):
        worse = day >= 11
        if isinstance(task, MultiClass):
            scores = rng.dirichlet((6, 2, 2), n)
            below = rng.random(n)[:, None] > scores.cumsum(axis=1)
            labels = np.minimum(below.sum(axis=1), 2).astype(np.float64)
            labels = np.where(worse & (rng.random(n) < 0.4), (labels + 1) % 3, labels)
        else:
            scores = np.stack([rng.normal(size=n), np.full(n, 2.0)], axis=1)
            labels = scores[:, 0] + rng.normal(0, 4.0 if worse else 2.0, n)
        events = day * DAY + np.arange(n) * 60_000
        versions, offsets = np.ones(n, np.int64), day * n + np.arange(n)
        to.add_answers(Answered(scores, versions, events))
        to.add_matches(
            Matches(scores, labels, events + HOUR, versions, np.zeros((n, 0), np.int64), events,
                    np.zeros(n, np.int64), offsets)
        )  # fmt: skip
        validation = {"log_loss": 0.86}
        live = LiveModel(1, {}, validation)
        told.append({f.metric.metric: f for f in to.close(live, (day + 1) * DAY)})
    assert told[10]["log_loss_change"].onset is None
    found = told[12]["log_loss_change"]
    assert _there(found.excess) > 1
    onset = _there(found.onset)
    assert onset.time_ms == pytest.approx(11 * DAY, abs=2 * HOUR)
    assert ("estimated_log_loss" in told[12]) == isinstance(task, MultiClass)
