import json
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest

from serving.alerting.finding import Finding
from serving.concept.watch import ConceptWatch
from serving.monitoring.judging import LiveModel
from serving.spec import ConceptDrift
from tests.serving.concept.made_days import (
    DAY,
    HOUR,
    Days,
    feed,
    live_model,
    made_days,
    watch,
)

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
