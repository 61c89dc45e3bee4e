"""What each feature looked like in training, as counts per bin: the reference of drift checks.

Numeric features are binned at the training deciles, so that one outlier cannot make the bins
blind; both ends are open, and missing values have a bin of their own. Categories have one bin each
and one for all others. numpy only.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streams.errors import ModelError
from training.dataset.encoding import sample_step
from training.dataset.prepared import Columns
from training.dataset.texts import counted

NUMERIC_BINS = 10
CATEGORY_BINS = 30
BLOCK_ROWS = 65_536
OTHER = "other"
MISSING = "missing"

Counts = dict[str, NDArray[np.int64]]
"""Feature name → how many rows fell into each of its bins."""


class Named(Protocol):
    """Tells the features' names; :class:`features.definition.Definition` is such."""

    def names(self, kind: Any) -> list[str]:
        """Return the names of the features of a kind, "numeric" or "category"."""
        ...


@dataclass(frozen=True)
class Reference:
    """Bins and expected counts per feature.

    ``edges`` maps a numeric feature to its inner edges e₁ < … < e_k: bin i holds
    e_i < x ≤ e_{i+1} with e_0 = −∞ and e_{k+1} = ∞, then comes the bin of missing values.
    ``values`` maps a category feature to the texts with a bin of their own; then comes "other".
    Both follow the order of the rows' columns.
    """

    edges: dict[str, tuple[float, ...]]
    values: dict[str, tuple[str, ...]]
    expected: Counts

    @classmethod
    def from_rows(cls, rows: Sequence[Columns], definition: Named) -> "Reference":
        """Return the reference of training rows in any number of pieces."""
        return cls.from_columns(rows, definition.names("numeric"), definition.names("category"))

    @classmethod
    def from_columns(
        cls,
        rows: Sequence[Columns],
        numeric_names: Sequence[str],
        category_names: Sequence[str],
    ) -> "Reference":
        """Return the reference of rows whose columns have the names given.

        Of more than :data:`training.dataset.encoding.SAMPLE_ROWS` rows, edges are those of evenly
        spaced ones; all are counted.
        """
        step = sample_step(sum(len(piece.numeric) for piece in rows))
        edges = {
            name: _edges(np.concatenate([piece.numeric[::step, i] for piece in rows]))
            for i, name in enumerate(numeric_names)
        }
        values = {
            name: _values([piece.categories[i] for piece in rows])
            for i, name in enumerate(category_names)
        }
        empty = cls(edges, values, {})
        expected: Counts = {}
        for piece in rows:
            for name, counts in empty.counts(piece).items():
                expected[name] = expected.get(name, 0) + counts
        return cls(edges, values, expected)

    def counts(self, rows: Columns) -> Counts:
        """Return how many of ``rows`` fall into each bin; counts of pieces add up."""
        if rows.numeric.shape[1] != len(self.edges) or len(rows.categories) != len(self.values):
            raise ModelError(
                f"the reference has {len(self.edges)} numeric and {len(self.values)} category "
                f"features, the rows {rows.numeric.shape[1]} and {len(rows.categories)}: they "
                "belong to different definitions"
            )
        counts: Counts = {n: np.zeros(len(e) + 2, np.int64) for n, e in self.edges.items()}
        for begin in range(0, len(rows.numeric), BLOCK_ROWS):
            block = rows.numeric[begin : begin + BLOCK_ROWS]
            for column, (name, edges) in zip(block.T, self.edges.items(), strict=True):
                bins = np.searchsorted(np.asarray(edges), column, side="left")
                bins[np.isnan(column)] = len(edges) + 1
                counts[name] += np.bincount(bins, minlength=len(edges) + 2)
        for texts, (name, values) in zip(rows.categories, self.values.items(), strict=True):
            index = {text: i for i, text in enumerate(values)}
            counts[name] = np.zeros(len(values) + 1, np.int64)
            for text, count in counted(texts).items():
                counts[name][index.get(text, len(values))] += count
        return counts

    def bin_labels(self, feature: str) -> list[str]:
        """Return a text per bin of ``feature``, for charts and alerts."""
        if feature in self.values:
            return [text or MISSING for text in self.values[feature]] + [OTHER]
        edges = [f"{edge:.4g}" for edge in self.edges[feature]]
        if not edges:
            return ["any", MISSING]
        between = [f"{low} to {high}" for low, high in pairwise(edges)]
        return [f"≤ {edges[0]}", *between, f"> {edges[-1]}", MISSING]

    def to_json(self) -> dict[str, Any]:
        """Return the reference as plain JSON values."""
        return {
            "numeric": [
                {"name": name, "edges": list(edges), "expected": self.expected[name].tolist()}
                for name, edges in self.edges.items()
            ],
            "categories": [
                {"name": name, "values": list(values), "expected": self.expected[name].tolist()}
                for name, values in self.values.items()
            ],
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Reference":
        """Return the reference that :meth:`to_json` wrote; raises ModelError where it is none."""
        try:
            entries = [*content["numeric"], *content["categories"]]
            return cls(
                {str(e["name"]): tuple(map(float, e["edges"])) for e in content["numeric"]},
                {str(e["name"]): tuple(map(str, e["values"])) for e in content["categories"]},
                {str(e["name"]): np.asarray(e["expected"], np.int64) for e in entries},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"reference.json is not a reference: {error!r}") from error


def _edges(column: NDArray[np.float64]) -> tuple[float, ...]:
    known = column[np.isfinite(column)]
    if not len(known):
        return ()
    # Observed values, not interpolated ones: a value that many rows share gets a bin of its own.
    inner = np.linspace(0, 1, NUMERIC_BINS + 1)[1:-1]
    edges = np.unique(np.quantile(known, inner, method="lower"))
    if known.min() == known.max():  # a constant: a bin for it, one below, one above
        return float(np.nextafter(known[0], -np.inf)), float(known[0])
    return tuple(float(edge) for edge in edges[edges < known.max()])


def _values(pieces: Sequence[Sequence[str]]) -> tuple[str, ...]:
    counts: Counter[str] = Counter()
    for piece in pieces:
        counts.update(counted(piece))
    most = sorted(counts, key=lambda text: (-counts[text], text))[:CATEGORY_BINS]
    return tuple(sorted(most))
