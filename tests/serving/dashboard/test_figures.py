"""The folds over a monitor's figures: drift, performance, fairness, and which goes where."""

import time

import msgspec
import numpy as np
import pytest

from serving.dashboard.drift_map import DriftMap
from serving.dashboard.fairness_table import FairnessTable
from serving.dashboard.kept import AT_LEAST, section_of
from serving.dashboard.performance_lines import PerformanceLines
from tests.serving.dashboard.figures import DAY_MS, metric
from training.reference import Reference

BINS = np.array([5, 5, 0], np.int64)


def test_a_figure_is_shown_where_its_name_says() -> None:
    assert section_of(metric("psi", 1, 0.1, feature="amount")) == "drift"
    assert section_of(metric("psi", 1, 0.1)) == "drift"
    assert section_of(metric("log_loss", 1, 0.5, group="shop=north")) == "performance"
    assert section_of(metric("selection_rate", 1, 0.5, group="a=b", feature="red")) == "fairness"
    assert section_of(metric("feature_skew", 1, 0.0, feature="x.features.v1")) is None


def test_the_heat_map_has_a_row_per_feature_and_a_column_per_window() -> None:
    drift = DriftMap()
    drift.take(metric("psi", 2, 0.3, feature="amount", threshold=0.25, p_value=0.001, effect=0.2))
    drift.take(metric("psi", 1, 0.1, feature="amount", threshold=0.25))
    drift.take(metric("psi", 2, 0.05, feature="hour", group="shop=north"))
    drift.take(metric("ks", 2, 0.07, feature="hour"))
    found = drift.whole()
    assert found.features == ["amount", "hour[shop=north]", "hour"]
    assert [window.end_ms for window in found.windows] == [DAY_MS, 2 * DAY_MS]
    psi, ks = found.figures
    assert (psi.metric, ks.metric) == ("psi", "ks")
    assert psi.value == [[0.1, 0.3], [None, 0.05], [None, None]]
    assert psi.p[0] == [None, 0.001]
    assert psi.effect[0] == [None, 0.2]
    assert psi.excess[0] == [0.4, 1.2]
    assert psi.n[0] == [1_000, 1_000]
    assert psi.thresholds == [0.25, None, None]
    assert ks.value[2] == [None, 0.07]


def test_what_is_new_holds_the_windows_that_were_judged_anew() -> None:
    drift = DriftMap()
    drift.take(metric("psi", 1, 0.1, feature="amount"))
    before = drift.revision
    drift.take(metric("psi", 2, 0.2, feature="amount"))
    new = drift.since(before)
    assert not new.whole
    assert [window.end_ms for window in new.windows] == [2 * DAY_MS]
    assert new.figures[0].value == [[0.2]]
    drift.take(metric("psi", 1, 0.9, feature="amount"))
    again = drift.since(new.revision)
    assert [window.end_ms for window in again.windows] == [DAY_MS]
    assert again.figures[0].value == [[0.9]]


def test_a_cell_shows_both_distributions() -> None:
    drift, reference = DriftMap(), Reference({"amount": (1.0,)}, {}, {"amount": BINS})
    drift.take(metric("psi", 1, 0.4, feature="amount", threshold=0.25, observed=(1, 8, 1)))
    key = DAY_MS, 0, 3
    cell = drift.cell("amount", key, reference, "model 3")
    assert cell is not None
    assert cell.expected == [0.5, 0.5, 0.0]
    assert cell.observed == [0.1, 0.8, 0.1]
    assert (cell.expected_n, cell.n, cell.why) == (10, 10, None)
    assert cell.bins == reference.bin_labels("amount")
    assert [(f.metric, f.value, f.threshold) for f in cell.figures] == [("psi", 0.4, 0.25)]
    without = drift.cell("amount", key, None, "model 3")
    assert without is not None
    assert without.expected is None
    assert without.observed == [0.1, 0.8, 0.1]
    assert "can't be read" in (without.why or "")
    assert drift.cell("amount", (2 * DAY_MS, 0, 3), reference, None) is None


def test_counts_in_other_bins_are_not_laid_beside_the_reference() -> None:
    drift, reference = DriftMap(), Reference({"amount": (1.0,)}, {}, {"amount": BINS})
    drift.take(metric("psi", 1, 0.4, feature="amount", observed=(1, 2, 3, 4)))
    cell = drift.cell("amount", (DAY_MS, 0, 3), reference, "model 3")
    assert cell is not None
    assert cell.observed is None
    assert "other bins" in (cell.why or "")


def test_old_windows_are_forgotten() -> None:
    drift, fairness = DriftMap(), FairnessTable()
    for day in range(1, 201):
        drift.take(metric("psi", day, 0.1, feature="amount"))
        fairness.take(metric("selection_rate", day, 0.5, group="a=b"))
    for section in (drift.whole(), fairness.whole()):
        assert len(section.windows) == AT_LEAST
        assert section.windows[-1].end_ms == 200 * DAY_MS


def test_a_restated_figure_takes_the_place_of_the_one_before() -> None:
    lines = PerformanceLines()
    lines.take(metric("log_loss", 1, 0.5, by="event", low=0.4, high=0.6))
    lines.take(metric("log_loss", 1, 0.55, by="event", restated=1))
    lines.take(metric("log_loss", 1, 0.5, by="event"))  # an older one, told again
    (series,) = lines.whole().series
    assert (series.value, series.restated, series.low) == ([0.55], [1], [None])


def test_each_version_and_group_has_a_line_and_news_only_new_points() -> None:
    lines = PerformanceLines()
    for day in (2, 1):
        lines.take(metric("brier", day, 0.1 * day, threshold=0.3, low=0.0, high=0.5))
    lines.take(metric("brier", 1, 0.2, group="shop=north"))
    before = lines.revision
    lines.take(metric("brier", 3, 0.3, model_version=4))
    whole = lines.whole()
    assert [(s.version, s.group, s.end_ms) for s in whole.series] == [
        (3, None, [DAY_MS, 2 * DAY_MS]),
        (3, "shop=north", [DAY_MS]),
        (4, None, [3 * DAY_MS]),
    ]
    assert whole.versions == [3, 4]
    assert whole.groups == ["shop=north"]
    new = lines.since(before)
    assert [(s.version, s.value) for s in new.series] == [(4, [0.3])]


def test_fairness_has_the_figures_of_a_window_together() -> None:
    table = FairnessTable()
    table.take(metric("selection_rate", 1, 0.3, group="sex=f", low=0.2, high=0.4))
    table.take(metric("selection_ratio", 1, 0.7, group="sex=f", threshold=0.8))
    table.take(metric("true_positive_rate_difference", 1, 0.1, group="sex", restated=2))
    found = table.whole()
    assert found.fields == ["sex"]
    (window,) = found.windows
    assert window.restated == 2
    assert {(f.metric, f.group, f.value) for f in window.figures} == {
        ("selection_rate", "sex=f", 0.3),
        ("selection_ratio", "sex=f", 0.7),
        ("true_positive_rate_difference", "sex", 0.1),
    }


@pytest.mark.parametrize("windows", [30])
def test_an_update_of_200_features_over_30_days_is_quick(windows: int) -> None:
    drift = DriftMap()
    counts = tuple(range(12))
    for day in range(1, windows + 1):
        for i in range(200):
            drift.take(
                metric("psi", day, i / 999, feature=f"f{i}", threshold=0.25, p_value=0.5,
                       effect=0.1, observed=counts)
            )  # fmt: skip
    before = drift.revision
    for i in range(200):
        drift.take(metric("psi", windows + 1, i / 998, feature=f"f{i}", threshold=0.25))
    begun_s = time.perf_counter()
    new = msgspec.json.encode(drift.since(before))
    new_s = time.perf_counter() - begun_s
    whole = msgspec.json.encode(drift.whole())
    whole_s = time.perf_counter() - begun_s - new_s
    assert len(new) < 50_000
    assert len(whole) < 1_000_000
    # The page may take 100 ms for an update, most of it for drawing; a busy machine gets it all.
    assert new_s < 0.1
    assert whole_s < 0.5
