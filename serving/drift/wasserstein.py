"""The Wasserstein distance: how far values have moved on average, ∫ |F − G| dx, in their units
(Vallender 1974)."""

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def wasserstein_of_counts(expected: Counts, observed: Counts, edges: Floats) -> Floats:
    """Return the distances (F,) of counts (F, E + 1) in bins between edges (F, E), ascending.

    Within a bin values are taken as evenly spread; beyond the outermost edges nothing is known of
    how far, so what is there counts as if it stood at the edge.
    """
    one, other = (
        np.cumsum(counts, axis=-1) / np.maximum(counts.sum(axis=-1), 1)[..., None]
        for counts in (expected, observed)
    )
    gap = np.abs(one - other)[..., :-1]  # at the edges
    between = (gap[..., 1:] + gap[..., :-1]) / 2
    result: Floats = (between * np.diff(edges, axis=-1)).sum(axis=-1)
    empty = (expected.sum(axis=-1) == 0) | (observed.sum(axis=-1) == 0)
    return np.where(empty, 0.0, result)
