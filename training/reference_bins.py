"""Where the bins of a reference lie: quantiles of numbers, the most frequent texts. numpy only."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.dataset.texts import counted

NUMERIC_BINS = 10
FINE_BINS = 120
CATEGORY_BINS = 30
KNOWN_CATEGORIES = 1_000


def edges(known: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the inner edges of :data:`NUMERIC_BINS` bins of finite numbers (n,)."""
    if not len(known):
        return ()
    if known.min() == known.max():  # a constant: a bin for it, one below, one above
        return float(np.nextafter(known[0], -np.inf)), float(known[0])
    return tuple(_quantiles(known, NUMERIC_BINS).tolist())


def fine_edges(known: NDArray[np.float64], coarse: tuple[float, ...]) -> tuple[float, ...]:
    """Return the edges of the fine bins: those of the coarse ones, more, and the range's ends."""
    if not len(known):
        return ()
    ends = [np.nextafter(known.min(), -np.inf), known.max()]
    return tuple(np.unique([*coarse, *_quantiles(known, FINE_BINS), *ends]).tolist())


def _quantiles(known: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    # Observed values, not interpolated ones: a value that many rows share gets a bin of its own.
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    found: NDArray[np.float64] = np.unique(np.quantile(known, inner, method="lower"))
    inside: NDArray[np.float64] = found[found < known.max()]
    return inside


def values(pieces: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the texts with a bin of their own, and all that are known, those first."""
    counts: Counter[str] = Counter()
    for piece in pieces:
        counts.update(counted(piece))
    most = sorted(counts, key=lambda text: (-counts[text], text))
    values = tuple(sorted(most[:CATEGORY_BINS]))
    rest = {*most[CATEGORY_BINS:KNOWN_CATEGORIES], ""}.difference(values)  # "" is never new
    return values, (*values, *sorted(rest))
