"""What is compared of one feature: its counts in the reference and in the window. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from training.dispersion import Dispersion, Variation
from training.reference import Reference
from training.reference_bins import CATEGORY_BINS
from training.score_reference import tenths

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Side:
    """A feature's counts on both sides.

    ``expected`` and ``observed`` (bins,) are what PSI is of; ``fine`` are both sides' (2, bins) of
    a number's ascending bins without the missing ones, at ``edges`` (bins − 1,). ``missing`` and
    ``new`` are (2,) counts. ``unit`` is what distances are told in; ``labels`` gives the bins'.
    """

    name: str
    expected: Counts
    observed: Counts
    labels: Callable[[], Sequence[str]]
    variation: Variation
    fine: Counts | None = None
    edges: Floats | None = None
    unit: float = 0.0
    missing: Counts | None = None
    new: Counts | None = None


def side_of(reference: Reference, name: str, observed: Counts, window_ms: int) -> Side:
    """Return a feature's two sides, of its fine counts in the window."""
    expected = reference.fine_expected[name]
    both = np.stack([expected, observed])
    one, other = reference.coarse(name, both)
    variation = reference.dispersion(name).of_window(window_ms, int(observed.sum()))
    at = reference.missing_bin(name)
    missing = None if at is None else both[:, at]

    def labels() -> Sequence[str]:
        return reference.bin_labels(name)

    if name in reference.known:
        texts = len(reference.values[name])
        told = len(reference.known[name]) > texts or texts < CATEGORY_BINS
        new = both[:, -1] if told else None
        return Side(name, one, other, labels, variation, missing=missing, new=new)
    edges = reference.edge_array(name)
    new = both[:, 0] + both[:, -2] if name in reference.ranges else None
    coarse_edges = reference.edges[name]
    unit = coarse_edges[-1] - coarse_edges[0] if coarse_edges else 0.0
    return Side(name, one, other, labels, variation, both[:, :-1], edges, unit, missing, new)


def side_of_cells(
    name: str,
    expected: Counts,
    observed: Counts,
    edges: Floats,
    window_ms: int,
    dispersion: Dispersion,
) -> Side:
    """Return the two sides of counts (C,) in ascending cells with ``edges`` (C − 1,) between."""
    starts = tenths(expected)
    told = [f"{edge:.3g}" for edge in edges[starts[1:] - 1]]
    labels = _between(told)
    variation = dispersion.of_window(window_ms, int(observed.sum()))
    one, other = (np.add.reduceat(counts, starts) for counts in (expected, observed))
    low, high = (_quantile(expected, edges, q) for q in (0.1, 0.9))
    fine = np.stack([expected, observed])
    return Side(name, one, other, lambda: labels, variation, fine, edges, high - low)


def _quantile(counts: Counts, edges: Floats, q: float) -> float:
    below = np.cumsum(counts)[:-1]
    at = int(np.searchsorted(below, q * counts.sum(), side="left"))
    return float(edges[min(at, len(edges) - 1)])


def _between(edges: Sequence[str]) -> list[str]:
    if not edges:
        return ["any"]
    inner = [f"{low} to {high}" for low, high in pairwise(edges)]
    return [f"< {edges[0]}", *inner, f"≥ {edges[-1]}"]
