"""What each feature looked like in training, as counts per bin: the reference of drift checks.

Numeric features are binned at the training deciles, so that one outlier cannot make the bins
blind; both ends are open, and missing values have a bin of their own. Categories have one bin each
and one for all others. numpy only.

Rows are counted once, in fine bins, of which those are sums: numeric ones at 120 quantiles and
where the training's range ends, categories at up to a thousand texts. What else is kept are the
ranges, how much each feature moves by itself (:mod:`training.dispersion`), and the model's own
scores on the validation rows.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streams.errors import ModelError
from training.dataset.encoding import sample_step
from training.dataset.prepared import Columns
from training.dataset.texts import counted
from training.dispersion import UNKNOWN, Dispersion
from training.reference_bins import edges as coarse_edges
from training.reference_bins import fine_edges as fine_edges_of
from training.reference_bins import values as values_of
from training.reference_json import fields_of, groups_of, written
from training.tallying import (
    GROUP_BLOCKS,
    GroupColumns,
    Tally,
    coded,
    frequent_groups,
    span_of,
)

BLOCK_CELLS = 1_048_576
"""So many values are binned at a time: memory grows neither with the rows nor with the columns."""
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
    """Bins and expected counts per feature, in the order of the rows' columns.

    ``edges`` maps a numeric feature to its inner edges e₁ < … < e_k: bin i holds
    e_i < x ≤ e_{i+1} with e_0 = −∞ and e_{k+1} = ∞, then comes the bin of missing values.
    ``values`` maps a category feature to the texts with a bin of their own; then comes "other".
    ``expected`` are the counts in these bins.

    ``fine_edges`` hold all of ``edges`` and more, with the same rule; the lowest fine bin is what
    lies below training's range, the one before "missing" what lies above. ``known`` are all texts
    with a fine bin: those of ``values`` first; then comes what is new. ``fine_expected`` are the
    counts in the fine bins. A package without them has fine bins equal to the others.

    ``ranges`` are the least and the greatest finite number of the rows that the edges are of.
    ``scores`` are counts of the model's own answers on the validation rows
    (:mod:`training.score_reference`), ``score_dispersions`` how these move by themselves, and
    ``calibration`` (CELLS, 3) what turned out (:mod:`training.validation_scores`). ``groups`` maps
    "field=value" to the reference of that group's rows, in the same bins.
    """

    edges: dict[str, tuple[float, ...]]
    values: dict[str, tuple[str, ...]]
    expected: Counts
    fine_edges: dict[str, tuple[float, ...]] = field(default_factory=dict)
    known: dict[str, tuple[str, ...]] = field(default_factory=dict)
    fine_expected: Counts = field(default_factory=dict)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    dispersions: dict[str, Dispersion] = field(default_factory=dict)
    scores: Counts = field(default_factory=dict)
    score_dispersions: dict[str, Dispersion] = field(default_factory=dict)
    calibration: NDArray[np.float64] | None = None
    groups: dict[str, "Reference"] = field(default_factory=dict)
    _arrays: dict[str, NDArray[np.float64]] = field(init=False, repr=False)
    _indexes: dict[str, dict[str, int]] = field(init=False, repr=False)
    _starts: Counts = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Fill in what an older package does not have, and prepare the look-ups."""
        if not self.fine_edges and not self.known:
            object.__setattr__(self, "fine_edges", dict(self.edges))
            object.__setattr__(self, "known", dict(self.values))
            object.__setattr__(self, "fine_expected", dict(self.expected))
        arrays = {name: np.asarray(edges) for name, edges in self.fine_edges.items()}
        indexes = {name: {t: i for i, t in enumerate(ts)} for name, ts in self.known.items()}
        starts = {name: _starts(self.edges[name], fine) for name, fine in arrays.items()}
        starts |= {name: np.arange(len(texts) + 1) for name, texts in self.values.items()}
        object.__setattr__(self, "_arrays", arrays)
        object.__setattr__(self, "_indexes", indexes)
        object.__setattr__(self, "_starts", starts)

    @classmethod
    def from_rows(
        cls,
        rows: Sequence[Columns],
        definition: Named,
        times_ms: Sequence[NDArray[np.int64]] | None = None,
        groups: GroupColumns | None = None,
    ) -> "Reference":
        """Return the reference of training rows in any number of pieces."""
        numeric, categories = (definition.names(kind) for kind in ("numeric", "category"))
        return cls.from_columns(rows, numeric, categories, times_ms, groups)

    @classmethod
    def from_columns(
        cls,
        rows: Sequence[Columns],
        numeric_names: Sequence[str],
        category_names: Sequence[str],
        times_ms: Sequence[NDArray[np.int64]] | None = None,
        groups: GroupColumns | None = None,
    ) -> "Reference":
        """Return the reference of rows whose columns have the names given.

        ``times_ms`` are the rows' event times, (n,) per piece; without them nothing is known of
        how the features move by themselves. ``groups`` are the rows' groups, of which
        those with rows enough get a reference of their own. Of more than
        :data:`training.dataset.encoding.SAMPLE_ROWS` rows, edges are those of evenly spaced ones;
        all are counted.
        """
        step = sample_step(sum(len(piece.numeric) for piece in rows))
        edges, fine_edges, ranges = {}, {}, {}
        for i, name in enumerate(numeric_names):
            column = np.concatenate([piece.numeric[::step, i] for piece in rows])
            finite = column[np.isfinite(column)]
            edges[name] = coarse_edges(finite)
            fine_edges[name] = fine_edges_of(finite, edges[name])
            if len(finite):
                ranges[name] = (float(finite.min()), float(finite.max()))
        values, known = {}, {}
        for i, name in enumerate(category_names):
            values[name], known[name] = values_of([piece.categories[i] for piece in rows])
        empty = cls(edges, values, {}, fine_edges, known, {}, ranges)
        return empty._filled(rows, times_ms, groups or {})

    @property
    def names(self) -> list[str]:
        """All features' names, the numeric ones first."""
        return [*self.edges, *self.values]

    def with_scores(
        self,
        scores: Mapping[str, NDArray[np.int64]],
        calibration: NDArray[np.float64] | None,
        dispersions: Mapping[str, Dispersion] | None = None,
    ) -> "Reference":
        """Return it with what the model made of the validation rows, and how that moves by
        itself."""
        return replace(
            self,
            scores=dict(scores),
            calibration=calibration,
            score_dispersions=dict(dispersions or {}),
        )

    def counts(self, rows: Columns) -> Counts:
        """Return how many of ``rows`` fall into each bin; counts of pieces add up."""
        fine = self.fine_counts(rows)
        return {name: self.coarse(name, counts) for name, counts in fine.items()}

    def fine_counts(self, rows: Columns, names: Collection[str] | None = None) -> Counts:
        """Return how many of ``rows`` fall into each fine bin, of the features of these ``names``
        (None: of all); counts of pieces add up."""
        self._check(rows)
        wanted = self.names if names is None else names
        counts: Counts = {
            n: np.zeros(len(e) + 2, np.int64) for n, e in self.fine_edges.items() if n in wanted
        }
        arrays = self._arrays
        for part in self._blocks(len(rows.numeric)):
            block = rows.numeric[part]
            for column, (name, edges) in zip(block.T, arrays.items(), strict=True):
                if name in counts:
                    counts[name] += _numeric_counts(column, edges)
        for texts, (name, index) in zip(rows.categories, self._indexes.items(), strict=True):
            if name not in wanted:
                continue
            counts[name] = np.zeros(len(index) + 1, np.int64)
            for text, count in counted(texts).items():
                counts[name][index.get(text, len(index))] += count
        return counts

    def fine_bins(self, rows: Columns) -> Counts:
        """Return the fine bin of each row, (n,) per feature."""
        self._check(rows)
        bins: Counts = {}
        for column, (name, edges) in zip(rows.numeric.T, self._arrays.items(), strict=True):
            bins[name] = _numeric_bins(column, edges)
        for texts, (name, index) in zip(rows.categories, self._indexes.items(), strict=True):
            bins[name] = coded(texts, index, len(index))
        return bins

    def coarse(self, feature: str, fine: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return counts (…, fine bins) as counts (…, bins)."""
        starts = self._starts[feature]
        result: NDArray[np.int64] = np.add.reduceat(fine, starts, axis=-1)
        return result

    def fine_width(self, feature: str) -> int:
        """Return how many fine bins a feature has."""
        if feature in self.known:
            return len(self.known[feature]) + 1
        return len(self.fine_edges[feature]) + 2

    def missing_bin(self, feature: str) -> int | None:
        """Return which fine bin holds the missing values; None for a category never missing in a
        package that does not tell."""
        if feature in self.known:
            return self._indexes[feature].get("")
        return len(self.fine_edges[feature]) + 1

    def edge_array(self, feature: str) -> NDArray[np.float64]:
        """Return a numeric feature's fine edges, (fine bins − 2,)."""
        return self._arrays[feature]

    def dispersion(self, feature: str) -> Dispersion:
        """Return how a feature moves by itself."""
        return self.dispersions.get(feature, UNKNOWN)

    def score_dispersion(self, name: str) -> Dispersion:
        """Return how the scores of this name move by themselves."""
        return self.score_dispersions.get(name, UNKNOWN)

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
        return written(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Reference":
        """Return the reference that :meth:`to_json` wrote, or an older version, which knew of
        nothing but bins; raises ModelError where it is none."""
        try:
            whole = cls(**fields_of(content))
            groups = {group: whole._with(*own) for group, own in groups_of(content).items()}
            return replace(whole, groups=groups)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"reference.json is not a reference: {error!r}") from error

    def _filled(
        self,
        rows: Sequence[Columns],
        times_ms: Sequence[NDArray[np.int64]] | None,
        columns: GroupColumns,
    ) -> "Reference":
        """Return it with the counts of ``rows``, of all and by group."""
        chosen = frequent_groups(columns)
        widths = {name: self.fine_width(name) for name in self.names}
        span = span_of(times_ms)
        whole = Tally(widths, self._starts, span)
        groups = {
            (column, code): Tally(widths, self._starts, span, GROUP_BLOCKS)
            for column, texts in chosen.items()
            for code in range(len(texts))
        }
        indexes = {name: {t: i for i, t in enumerate(texts)} for name, texts in chosen.items()}
        for k, piece in enumerate(rows):
            for part in self._blocks(len(piece.numeric)):
                bins = self.fine_bins(
                    _Part(piece.numeric[part], [c[part] for c in piece.categories])
                )
                times = None if times_ms is None else np.asarray(times_ms[k][part])
                whole.add(bins, times)
                codes = {name: coded(columns[name][k][part], indexes[name], -1) for name in chosen}
                for (name, code), tally in groups.items():
                    members = np.flatnonzero(codes[name] == code)
                    own = {feature: found[members] for feature, found in bins.items()}
                    tally.add(own, None if times is None else times[members])
        by_group = {
            f"{name}={chosen[name][code]}": self._with(tally.fine, tally.dispersions())
            for (name, code), tally in groups.items()
        }
        return replace(self._with(whole.fine, whole.dispersions()), groups=by_group)

    def _with(self, fine: Counts, dispersions: dict[str, Dispersion]) -> "Reference":
        """Return the same bins with these counts."""
        return replace(
            self,
            expected={name: self.coarse(name, counts) for name, counts in fine.items()},
            fine_expected=fine,
            dispersions=dispersions,
            scores={},
            score_dispersions={},
            calibration=None,
            groups={},
        )

    def _blocks(self, rows: int) -> Iterator[slice]:
        """Yield stretches of so many rows, each of :data:`BLOCK_CELLS` values at most."""
        size = max(1, BLOCK_CELLS // max(1, len(self.names)))
        for begin in range(0, rows, size):
            yield slice(begin, begin + size)

    def _check(self, rows: Columns) -> None:
        if rows.numeric.shape[1] != len(self.edges) or len(rows.categories) != len(self.values):
            raise ModelError(
                f"the reference has {len(self.edges)} numeric and {len(self.values)} category "
                f"features, the rows {rows.numeric.shape[1]} and {len(rows.categories)}: they "
                "belong to different definitions"
            )


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch of rows."""

    numeric: NDArray[np.float64]
    categories: Sequence[Sequence[str]]


def _numeric_counts(column: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the counts of :func:`_numeric_bins`: a sort and a few look-ups are quicker."""
    values = np.sort(column)  # NaN comes last
    known = len(values) - int(np.count_nonzero(np.isnan(values)))
    upto = np.searchsorted(values[:known], edges, side="right")
    return np.diff(upto, prepend=0, append=(known, len(values)))


def _numeric_bins(column: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    bins: NDArray[np.int64] = np.searchsorted(edges, column, side="left")
    bins[np.isnan(column)] = len(edges) + 1
    return bins


def _starts(edges: tuple[float, ...], fine: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the fine bin with which each bin begins."""
    return np.array([0, *(np.searchsorted(fine, edges) + 1), len(fine) + 1], np.int64)
