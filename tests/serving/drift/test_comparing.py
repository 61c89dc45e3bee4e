"""All features at once: what is told of each, and that nothing is told where nothing happened."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.drift.comparing import compare_all, compare_cells, compare_classes
from serving.drift.drift import Drift
from serving.drift.ks import ks
from serving.drift.psi import psi
from training.dispersion import Dispersion
from training.reference import Reference
from training.score_reference import CELLS, cells, lower_bound, tenths

DAY_MS = 86_400_000


@dataclass
class Rows:
    numeric: NDArray[np.float64]
    categories: list[list[str]]


def _rows(n: int, seed: int, shift: float = 0.0, missing: float = 0.02) -> Rows:
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1, n)
    x[rng.random(n) < missing] = np.nan
    return Rows(
        np.stack([x, rng.gamma(2, size=n)], axis=1),
        [rng.choice(["a", "b", "c", ""], n, p=[0.5, 0.3, 0.15, 0.05]).tolist()],
    )


def _reference(n: int = 20_000) -> Reference:
    return Reference.from_columns([_rows(n, 0)], ["x", "steady"], ["c"])


def _drifts(window: Rows, reference: Reference | None = None) -> dict[str, Drift]:
    reference = _reference() if reference is None else reference
    found = compare_all(reference, reference.fine_counts(window), 7 * DAY_MS)
    assert [drift.feature for drift in found] == ["x", "steady", "c"]
    return {drift.feature: drift for drift in found}


def test_nothing_has_happened() -> None:
    for name, drift in _drifts(_rows(3_000, 1)).items():
        assert drift.chance > 0.01, name
        assert drift.psi < drift.critical < 0.1
        assert drift.band == "none"
        assert not drift.alarming(0.0)
        assert (drift.n, drift.n_reference, drift.n_effective) == (3_000, 20_000, 3_000)


def test_a_shift_is_seen_by_every_figure_of_its_feature_alone() -> None:
    window, reference = _rows(3_000, 1, shift=1.0), _reference()
    found = _drifts(window, reference)
    drift = found["x"]

    assert drift.psi == pytest.approx(psi(reference.expected["x"], reference.counts(window)["x"]))
    assert drift.chance < 1e-50
    assert drift.band == "major"
    assert drift.alarming(0.25)
    one, other = (np.sort(rows.numeric[:, 0]) for rows in (_rows(20_000, 0), window))
    one, other = one[~np.isnan(one)], other[~np.isnan(other)]
    assert drift.ks == drift.effect == pytest.approx(ks(one, other), abs=0.01)
    assert drift.ks_chance is not None
    assert drift.ks_chance < 1e-50
    assert drift.wasserstein == pytest.approx(1 / 2.563, rel=0.1)  # the normal's inner 80 %
    assert drift.shifted[0].observed > 2 * drift.shifted[0].expected
    assert drift.shifted[0].bin == reference.bin_labels("x")[9]
    assert found["steady"].chance > 0.01


def test_categories_have_an_effect_size_and_no_distances() -> None:
    window = _rows(3_000, 1)
    window.categories[0] = ["b"] * 3_000
    drift = _drifts(window)["c"]

    assert (drift.ks, drift.ks_chance, drift.wasserstein) == (None, None, None)
    assert 0.3 < drift.effect < 1
    assert {each.bin for each in drift.shifted} >= {"a", "b"}
    assert drift.missing == 0
    assert drift.missing_reference == pytest.approx(0.05, abs=0.01)


def test_missing_values_new_texts_and_numbers_out_of_range() -> None:
    window = _rows(2_000, 1, missing=0.1)
    window.numeric[:5, 1] = 1e9
    window.categories[0][:4] = ["never seen"] * 4
    found = _drifts(window)

    assert found["x"].missing == pytest.approx(0.1, abs=0.02)
    assert found["x"].missing_chance is not None
    assert found["x"].missing_chance < 1e-10
    assert found["steady"].missing_chance == 1
    assert found["steady"].new == pytest.approx(5 / 2_000)
    assert found["steady"].new_chance is not None
    assert found["steady"].new_chance < 1e-4
    assert found["c"].new == pytest.approx(4 / 2_000)
    assert found["c"].new_chance is not None
    assert found["c"].new_chance < 1e-3
    assert found["c"].new_reference == 0


def test_windows_of_parts_add_up() -> None:
    reference, window = _reference(), _rows(3_000, 1, shift=0.2)
    parts = [
        reference.fine_counts(Rows(window.numeric[a:b], [window.categories[0][a:b]]))
        for a, b in ((0, 700), (700, 701), (701, 3_000))
    ]
    added = {name: sum((part[name] for part in parts[1:]), parts[0][name]) for name in parts[0]}

    assert compare_all(reference, added, DAY_MS) == compare_all(
        reference, reference.fine_counts(window), DAY_MS
    )


def _moving(days: int, per_day: int, seed: int) -> tuple[Rows, NDArray[np.int64]]:
    """``x`` has another mean every day, ``steady`` has not."""
    rng = np.random.default_rng(seed)
    rows = _rows(days * per_day, seed)
    rows.numeric[:, 0] += np.repeat(rng.normal(0, 0.5, days), per_day)
    return rows, np.arange(days * per_day) * (DAY_MS // per_day)


def test_a_feature_that_moves_by_itself_raises_no_alarm_where_nothing_happens() -> None:
    rows, times = _moving(60, 600, 0)
    reference = Reference.from_columns([rows], ["x", "steady"], ["c"], [times])
    plain = replace(reference, dispersions={})
    windows = [_moving(1, 600, seed)[0] for seed in range(1, 101)]
    counts = [reference.fine_counts(window) for window in windows]
    aware = [{d.feature: d for d in compare_all(reference, c, DAY_MS)} for c in counts]
    naive = [{d.feature: d for d in compare_all(plain, c, DAY_MS)} for c in counts]

    assert np.mean([d["x"].chance < 0.01 for d in naive]) > 0.7
    assert np.mean([d["x"].chance < 0.01 for d in aware]) < 0.06
    assert np.mean([d["x"].psi > d["x"].critical for d in aware]) < 0.06
    kolmogorov = [d["x"].ks_chance for d in aware]
    assert np.mean([p is not None and p < 0.01 for p in kolmogorov]) < 0.06
    assert aware[0]["x"].dispersion > 8
    assert aware[0]["steady"].dispersion < 2


def test_a_larger_change_than_ever_is_seen_though_the_feature_moves() -> None:
    rows, times = _moving(60, 600, 0)
    reference = Reference.from_columns([rows], ["x", "steady"], ["c"], [times])
    window = _moving(1, 600, 5)[0]
    window.numeric[:, 0] += 4

    drift = compare_all(reference, reference.fine_counts(window), DAY_MS)[0]

    assert drift.chance < 1e-4
    assert drift.alarming(0.25)


def test_an_older_package_tells_less() -> None:
    fine = _reference()
    many = (*(f"t{i:02}" for i in range(29)), "a")
    counts = {**fine.expected, "c": np.append(np.full(30, 9), 0)}
    old = Reference(fine.edges, {"c": many}, counts)
    window = _rows(3_000, 1, shift=1.0)
    found = {d.feature: d for d in compare_all(old, old.fine_counts(window), DAY_MS)}

    assert found["x"].psi == _drifts(window, fine)["x"].psi
    assert found["x"].new is None
    assert found["c"].new_chance is None
    assert found["x"].ks is not None


def test_scores_are_compared_on_tenths_of_their_cells() -> None:
    rng = np.random.default_rng(0)
    edges = np.array([lower_bound(cell) for cell in range(1, CELLS)])
    expected = np.bincount(cells(rng.beta(2, 8, 20_000)), minlength=CELLS)
    same = np.bincount(cells(rng.beta(2, 8, 2_000)), minlength=CELLS)
    other = np.bincount(cells(rng.beta(4, 6, 2_000)), minlength=CELLS)

    calm = compare_cells("score", expected, same, edges, DAY_MS)
    drift = compare_cells("score", expected, other, edges, DAY_MS)

    assert calm.chance > 0.01
    assert drift.psi > 0.5
    assert drift.chance < 1e-20
    assert drift.ks is not None
    assert drift.ks > 0.3
    assert 5 <= drift.bins <= 10
    assert drift.shifted[0].bin.startswith("≥ 0.3")
    moves = Dispersion((DAY_MS,), (50.0,), (1.0,), (9,), (2_000.0,))
    assert compare_cells("score", expected, other, edges, DAY_MS, moves).chance > drift.chance


def test_tenths_of_few_cells_or_none() -> None:
    assert tenths(np.array([0, 0])).tolist() == [0]
    assert tenths(np.array([5, 5])).tolist() == [0, 1]
    assert tenths(np.full(100, 3)).tolist() == list(range(0, 100, 10))
    assert tenths(np.array([0, 1, 0, 8, 1, 0])).tolist() == [0, 2, 3, 4]


def test_leaving_the_one_score_that_all_had_is_seen_on_both_sides() -> None:
    edges = np.array([lower_bound(cell) for cell in range(1, CELLS)])
    expected = np.bincount(cells(np.full(2_000, 0.3)), minlength=CELLS)
    for now in (0.1, 0.3, 0.7):
        observed = np.bincount(cells(np.full(600, now)), minlength=CELLS)
        drift = compare_cells("score", expected, observed, edges, DAY_MS)
        assert (drift.psi > 5, drift.chance < 1e-10) == (now != 0.3, now != 0.3)
        assert drift.wasserstein is None


def test_classes_are_compared_as_they_are() -> None:
    drift = compare_classes(
        "class", np.array([900, 100]), np.array([250, 250]), ["cat", "dog"], DAY_MS
    )
    assert drift.chance < 1e-20
    assert drift.shifted[0].bin == "dog"


def test_nothing_to_compare() -> None:
    assert compare_all(_reference(), {}, DAY_MS) == []
    empty = _drifts(Rows(np.empty((0, 2)), [[]]))
    assert {(d.psi, d.chance, d.critical, d.n) for d in empty.values()} <= {
        (d.psi, 1.0, 0.0, 0) for d in empty.values()
    }
