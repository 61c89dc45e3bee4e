"""The watch of inputs: windows against training, of all events and of each group's own."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from features.records import FeatureRows
from serving.alerting.finding import Finding
from serving.monitoring.drift_watch import DataDriftWatch
from serving.monitoring.groups import Groups
from serving.monitoring.judging import LiveModel
from serving.spec import DataDrift
from tests.serving.monitored import DAY, DEFINITION, START, feature_rows
from training.reference import Reference

A_DAY = 900


def _rows(day: int, partition: int = 0, guests: float = 10.0) -> FeatureRows:
    """Return a day's rows: of members the distance is about 2, of guests about ``guests``."""
    times = START + day * DAY + np.arange(A_DAY) * (DAY // A_DAY)
    rows = feature_rows(partition, times.tolist(), [0.0] * A_DAY)
    is_guest = np.array(rows.groups[0]) == "guest"
    middle = np.where(is_guest, guests, 2.0)
    rows.numeric[:, 0] = middle + np.random.default_rng(100 + day).normal(size=A_DAY)
    return rows


def _live(days: int = 12) -> LiveModel:
    rows = [_rows(day) for day in range(-days, 0)]
    groups = {"user": [each.groups[0] for each in rows]}
    reference = Reference.from_rows(rows, DEFINITION, [r.event_times_ms for r in rows], groups)
    return LiveModel(1, reference.expected, {}, reference)


def _watch(live: LiveModel, **more: object) -> DataDriftWatch:
    monitor = DataDrift(window="2d", **more)  # type: ignore[arg-type]
    watch = DataDriftWatch(monitor, DAY, Groups(("user",)))
    watch.use(live)
    return watch


def _add(watch: DataDriftWatch, rows: FeatureRows, fresh: NDArray[np.bool_] | None = None) -> None:
    watch.add_features(rows, np.ones(len(rows), np.bool_) if fresh is None else fresh)


def _psi(found: list[Finding]) -> dict[tuple[str | None, str | None], Finding]:
    return {
        (each.metric.group, each.metric.feature): each
        for each in found
        if each.metric.metric == "psi"
    }


def test_each_group_is_compared_with_its_own_training() -> None:
    live = _live()
    watch = _watch(live, by_group=True)
    for day in range(2):
        _add(watch, _rows(day, guests=7.0))
    found = _psi(watch.close(live, START + 2 * DAY))

    assert found.keys() == {
        (group, feature)
        for group in (None, "user=member", "user=guest")
        for feature in ("distance", "kind")
    }
    guests, members = found["user=guest", "distance"], found["user=member", "distance"]
    assert guests.excess is not None
    assert members.excess is not None
    assert guests.excess > 10
    assert members.excess < 0.3  # though it is far from what all of them have
    assert (guests.metric.n, members.metric.n) == (600, 1_200)
    assert guests.cause is not None
    assert "where user=guest" in guests.cause


def test_groups_that_training_hardly_had_are_neither_counted_nor_judged() -> None:
    live = _live()
    assert live.reference is not None
    few = replace(live.reference, groups={"user=member": live.reference.groups["user=member"]})
    watch = _watch(replace(live, reference=few), by_group=True)
    for day in range(2):
        _add(watch, _rows(day))
    content, _ = watch.snapshot()

    assert "user=member|distance" in str(content)
    assert "guest" not in str(content)
    assert {group for group, _ in _psi(watch.close(live, START + 2 * DAY))} == {None, "user=member"}


def test_a_window_with_too_few_events_an_unknown_name_or_no_model_says_nothing() -> None:
    live = _live()
    watch = _watch(live, minimum=1_000, features=("distance", "no such"))
    _add(watch, _rows(0))
    assert watch.close(live, START + DAY) == []
    assert watch.close(LiveModel(), START + DAY) == []

    _add(watch, _rows(1))
    assert _psi(watch.close(live, START + 2 * DAY)).keys() == {(None, "distance")}
    watch.forget(START + DAY)
    assert watch.close(live, START + 2 * DAY) == []


def test_partitions_batches_restarts_and_repeated_records_change_nothing() -> None:
    live = _live()
    whole, parts = (_watch(live, by_group=True) for _ in range(2))
    days = [_rows(day, guests=8.0) for day in range(2)]
    for rows in days:
        _add(whole, rows)
    halves = np.arange(A_DAY) % 2 == 0
    for mask in (halves, ~halves):  # as of two partitions, one after the other
        for rows in reversed(days):
            _add(parts, rows, mask)
            _add(parts, rows, np.zeros(A_DAY, np.bool_))  # nothing fresh
            kept = _watch(live, by_group=True)
            kept.load(*parts.snapshot())
            parts = kept

    assert parts.close(live, START + 2 * DAY) == whole.close(live, START + 2 * DAY)


def test_the_onset_is_the_step_at_which_the_change_began() -> None:
    live = _live()
    watch = _watch(live)
    _add(watch, _rows(0))
    _add(watch, _rows(1, guests=-6.0))
    found = _psi(watch.close(live, START + 2 * DAY))[None, "distance"]

    assert found.onset is not None
    assert found.onset.time_ms == START + DAY
    assert found.bins


def test_infinite_and_missing_values_are_counted_and_told() -> None:
    live = _live()
    watch = _watch(live, features=("distance",))
    for day in range(2):
        rows = _rows(day)
        rows.numeric[::4, 0] = np.nan
        rows.numeric[1::4, 0] = np.inf
        rows.numeric[2::8, 0] = -np.inf
        _add(watch, rows)
    found = {each.metric.metric: each for each in watch.close(live, START + 2 * DAY)}

    assert found["missing_rate"].metric.value == 0.25
    assert 0.37 < found["new_values"].metric.value < 0.38
    for name in ("psi", "missing_rate", "new_values"):
        assert found[name].chance is not None
        assert found[name].excess is not None
        assert np.isfinite(found[name].metric.value)
    assert found["psi"].cause is not None


def test_a_feature_that_training_never_had_is_seen_when_it_comes() -> None:
    rows = [_rows(day) for day in range(-12, 0)]
    for each in rows:
        each.numeric[:] = np.nan
    reference = Reference.from_rows(rows, DEFINITION, [r.event_times_ms for r in rows])
    live = LiveModel(1, reference.expected, {}, reference)
    watch = _watch(live, features=("distance",))
    for day in range(2):
        _add(watch, _rows(day))
    found = {each.metric.metric: each for each in watch.close(live, START + 2 * DAY)}

    assert found["missing_rate"].metric.value == 0
    assert found["missing_rate"].excess is not None
    assert found["missing_rate"].excess > 10
    assert found["psi"].excess is not None
    assert found["psi"].excess > 4
    assert found["psi"].chance is not None
    assert found["psi"].chance < 1e-10
