"""A window against a reference: all features at once, from counts that add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from serving.drift.chi_squared import chances, rare_together, statistics
from serving.drift.drift import ALPHA, Drift
from serving.drift.ks import ks_chance, ks_of_counts
from serving.drift.psi import contributions
from serving.drift.shares import chance_of_change, chance_of_more
from serving.drift.sides import Side, side_of, side_of_cells
from serving.drift.wasserstein import wasserstein_of_counts
from streams.wire import ShiftedBin
from training.dispersion import UNKNOWN, Dispersion
from training.reference import Reference

SHIFTED = 5
"""So many bins are told of a feature."""

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def compare_all(
    reference: Reference, observed: Mapping[str, Counts], window_ms: int
) -> list[Drift]:
    """Return the comparison of each feature that ``observed`` has, in its order.

    ``observed`` are a window's counts in the reference's fine bins
    (:meth:`training.reference.Reference.fine_counts`), ``window_ms`` how much event time they are
    of: by it goes how much a feature may move by itself.
    """
    return compare_sides([side_of(reference, *each, window_ms) for each in observed.items()])


def compare_cells(
    name: str,
    expected: Counts,
    observed: Counts,
    edges: Floats,
    window_ms: int,
    dispersion: Dispersion = UNKNOWN,
) -> Drift:
    """Return the comparison of counts (C,) in ascending cells, such as those of scores.

    ``edges`` (C − 1,) stand between the cells; PSI is of their
    :func:`~training.score_reference.tenths` on the expected side.
    """
    return compare_sides([side_of_cells(name, expected, observed, edges, window_ms, dispersion)])[0]


def compare_classes(
    name: str,
    expected: Counts,
    observed: Counts,
    labels: Sequence[str],
    window_ms: int,
    dispersion: Dispersion = UNKNOWN,
) -> Drift:
    """Return the comparison of counts (C,) of classes, called ``labels``."""
    variation = dispersion.of_window(window_ms, int(observed.sum()))
    return compare_sides([Side(name, expected, observed, lambda: labels, variation)])[0]


def compare_sides(sides: Sequence[Side]) -> list[Drift]:
    """Return the comparison of each; what can be is computed for all at once."""
    if not sides:
        return []
    expected, observed = (
        _padded([getattr(side, which) for side in sides]) for which in ("expected", "observed")
    )
    parts = contributions(expected, observed)
    n_reference, n = expected.sum(axis=1), observed.sum(axis=1)
    statistic, freedom = statistics(*rare_together(expected, observed))
    factors = np.array([side.variation.factor for side in sides])
    freedoms = np.array([side.variation.freedom for side in sides])
    comparisons = np.array([float(side.variation.comparisons) for side in sides])
    p = chances(statistic, freedom, factors, freedoms, comparisons)
    used = np.count_nonzero(expected + observed, axis=1)
    critical = _critical(n_reference, n, used, factors, freedoms, comparisons)
    cramer = np.sqrt(statistic / np.maximum(n_reference + n, 1))
    moves = _moves(sides, factors, freedoms, used)
    missing = _rates(sides, "missing", factors, n_reference, n)
    new = _rates(sides, "new", factors, n_reference, n)
    results = []
    for i, side in enumerate(sides):
        distance, chance, far = moves.get(i, (None, None, None))
        absent, absent_before, absent_chance = missing[i]
        unseen, unseen_before, unseen_chance = new[i]
        drift = Drift(
            feature=side.name,
            n=int(n[i]),
            n_reference=int(n_reference[i]),
            psi=float(parts[i].sum()),
            critical=float(critical[i]),
            chance=float(p[i]),
            chi_squared=float(statistic[i]),
            effect=float(cramer[i]) if distance is None else distance,
            bins=int(used[i]),
            dispersion=float(factors[i]),
            ks=distance,
            ks_chance=chance,
            wasserstein=far,
            missing=absent,
            missing_reference=absent_before,
            missing_chance=absent_chance,
            new=unseen,
            new_reference=unseen_before,
            new_chance=unseen_chance,
            shifted=shifted(side, parts[i]),
        )
        results.append(drift)
    return results


def shifted(side: Side, parts: Floats) -> tuple[ShiftedBin, ...]:
    """Return the bins that add most to the PSI: ``parts`` (bins or more,)."""
    labels = side.labels()
    totals = max(1, int(side.expected.sum())), max(1, int(side.observed.sum()))
    order = np.argsort(-parts[: len(side.expected)], kind="stable")[:SHIFTED].tolist()
    return tuple(
        ShiftedBin(labels[i], int(side.expected[i]) / totals[0], int(side.observed[i]) / totals[1])
        for i in order
        if parts[i] > 0
    )


def _moves(
    sides: Sequence[Side], factors: Floats, freedoms: Floats, used: Counts
) -> dict[int, tuple[float, float, float | None]]:
    """Return place → (KS distance, its chance, Wasserstein distance) of the numbers."""
    numeric = [(i, s, s.fine, s.edges) for i, s in enumerate(sides) if s.fine is not None]
    chosen = [(i, s, f, e) for i, s, f, e in numeric if f is not None and e is not None]
    if not chosen:
        return {}
    places = np.array([i for i, *_ in chosen])
    expected, observed = (_padded([fine[k] for _, _, fine, _ in chosen]) for k in (0, 1))
    width = expected.shape[1] - 1
    edges = np.stack([_lengthened(each, width) for *_, each in chosen])
    distances = ks_of_counts(expected, observed)
    far = wasserstein_of_counts(expected, observed, edges)
    # The factor is the mean over the bins; where few movements account for all of them, the
    # distribution function, which adds bins up, moves by as much more.
    bins = np.maximum(used[places] - 1.0, 1.0)
    together = np.where(factors[places] > 1, bins / np.minimum(freedoms[places], bins), 1.0)
    chance = ks_chance(
        distances, expected.sum(axis=1), observed.sum(axis=1), factors[places] * together
    )
    return {
        i: (
            float(distances[k]),
            float(chance[k]),
            float(far[k]) / side.unit if side.unit > 0 else None,
        )
        for k, (i, side, _, _) in enumerate(chosen)
    }


def _rates(
    sides: Sequence[Side], which: str, factors: Floats, n_reference: Counts, n: Counts
) -> list[tuple[float | None, float | None, float | None]]:
    """Return (share in the window, in the reference, chance) per side."""
    found: list[Counts | None] = [getattr(side, which) for side in sides]
    counts = np.array([[0, 0] if each is None else each.tolist() for each in found], np.float64)
    known, seen = counts.T
    chance = chance_of_change if which == "missing" else chance_of_more
    p = np.ones(len(sides))
    some = (known + seen) > 0
    if some.any():
        sizes = (seen, n, known, n_reference)
        p[some] = chance(*(np.asarray(x, np.float64)[some] / factors[some] for x in sizes))
    shares = seen / np.maximum(n, 1), known / np.maximum(n_reference, 1)
    return [
        (None, None, None) if each is None else (float(a), float(b), float(c))
        for each, a, b, c in zip(found, *shares, p, strict=True)
    ]


def _critical(
    n_reference: Counts, n: Counts, used: Counts, factors: Floats, freedoms: Floats, known: Floats
) -> Floats:
    """Return :func:`serving.drift.psi.critical_value` of all features."""
    from scipy.special import chdtri, fdtri

    df = np.maximum(used - 1.0, 1.0)
    d = np.minimum(freedoms, df)
    shared = df * factors * fdtri(d, d * np.maximum(known, 1.0), 1 - ALPHA)
    quantile = np.where(known > 0, shared, chdtri(df, ALPHA))
    noise = 1 / np.maximum(n_reference, 1) + 1 / np.maximum(n, 1)
    possible = (used > 1) & (n_reference > 0) & (n > 0)
    return np.where(possible, noise * quantile, 0.0)


def _padded(rows: Sequence[Counts]) -> Counts:
    width = max(map(len, rows))
    result = np.zeros((len(rows), width), np.int64)
    for i, row in enumerate(rows):
        result[i, : len(row)] = row
    return result


def _lengthened(edges: Floats, width: int) -> Floats:
    last = edges[-1] if len(edges) else 0.0
    return np.concatenate([edges, np.full(width - len(edges), last)])
