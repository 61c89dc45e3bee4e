"""Whether a window can be told from training by all features together: a domain classifier. Pure.

A change in how features go together leaves each one's own distribution as it was. So a logistic
regression is asked which side a row is from, and how well it does on rows that it has not seen is
the answer: at an area under the ROC curve of 0.5 it can't tell. (Lopez-Paz and Oquab, "Revisiting
Classifier Two-Sample Tests", 2017.)

Rows next to each other are alike, in a log above all: so each side is cut into stretches, each
stretch is foretold from the others, and the interval is that of the stretches' areas.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

ROWS = 5_000
"""At most so many rows of a side are looked at, evenly spaced."""
STRETCHES = 5
T_95 = 2.776
"""Student's t of 4 degrees of freedom, two-sided 95 %."""
TEXTS = 20
"""So many texts of a category have a column; the others share one."""
MOST_PAIRED = 30
"""Products of pairs are looked at for at most so many numbers."""
RIDGE, STEPS, LONGEST_STEP = 1.0, 25, 2.0
SEED = 1

Floats = NDArray[np.float64]


class Rows(Protocol):
    """Feature values of n rows: ``numeric`` (n, F), ``categories`` C columns of n texts."""

    @property
    def numeric(self) -> Floats:
        """Return the numbers; NaN is missing."""
        ...

    @property
    def categories(self) -> list[list[str]]:
        """Return the texts."""
        ...


@dataclass(frozen=True)
class Needed:
    """A feature, and by how much the area shrinks where its values are shuffled."""

    feature: str
    drop: float


@dataclass(frozen=True)
class Separability:
    """How well the sides are told apart: ``auc`` on rows not seen, its 95 % interval, the rows of
    each side, and the features by what they contribute, the most first."""

    auc: float
    low: float
    high: float
    n: int
    n_reference: int
    features: Sequence[Needed]

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the interval leaves out 0.5."""
        return self.low > 0.5


def separability(
    reference: Rows, window: Rows, numeric: Sequence[str], categories: Sequence[str]
) -> Separability | None:
    """Return how well ``window`` can be told from ``reference``, both in the log's order, or None
    where a side has fewer than ten rows a stretch; ``numeric`` and ``categories`` are the names of
    the columns."""
    sides = [_thinned(side) for side in (reference, window)]
    lengths = [len(side[0]) for side in sides]
    if min(lengths) < 10 * STRETCHES:
        return None
    sources = _sources(sides)
    labels = np.repeat([0.0, 1.0], lengths)
    weights = np.repeat([0.5 / n for n in lengths], lengths) * sum(lengths)
    stretch = np.concatenate([np.arange(n) * STRETCHES // n for n in lengths])
    names = [*numeric, *categories]
    areas, drops = [], np.zeros((STRETCHES, len(names)))
    random = np.random.default_rng(SEED)
    whole = _design(sources)
    for held in range(STRETCHES):
        seen, unseen = stretch != held, stretch == held
        fitted = _fit(whole[seen], labels[seen], weights[seen])
        areas.append(_area(whole[unseen] @ fitted, labels[unseen]))
        rest = [source[unseen] for source in sources]
        for i, source in enumerate(rest):
            shuffled = [*rest[:i], source[random.permutation(len(source))], *rest[i + 1 :]]
            drops[held, i] = areas[-1] - _area(_design(shuffled) @ fitted, labels[unseen])
    auc, spread = float(np.mean(areas)), float(np.std(areas, ddof=1))
    half = T_95 * spread / math.sqrt(STRETCHES)
    needed = [Needed(n, float(d)) for n, d in zip(names, drops.mean(axis=0), strict=True)]
    return Separability(
        auc, max(0.0, auc - half), min(1.0, auc + half), lengths[1], lengths[0],
        sorted(needed, key=lambda each: (-each.drop, each.feature)),
    )  # fmt: skip


def _thinned(side: Rows) -> tuple[Floats, list[list[str]]]:
    every = max(1, -(-len(side.numeric) // ROWS)) if len(side.numeric) else 1
    return side.numeric[::every], [column[::every] for column in side.categories]


def _sources(sides: Sequence[tuple[Floats, list[list[str]]]]) -> list[Floats]:
    """Return per feature what the design is made of, over both sides: of a number (n, 2) its rank
    in [-1, 1] and whether it is missing, of a category (n, texts) which text it is."""
    numbers = np.concatenate([numeric for numeric, _ in sides])
    return [
        *(_ranked(numbers[:, i]) for i in range(numbers.shape[1])),
        *(
            _one_hot([text for _, categories in sides for text in categories[i]])
            for i in range(len(sides[0][1]))
        ),
    ]


def _ranked(values: Floats) -> Floats:
    missing = np.isnan(values)
    rank = np.zeros(len(values))
    known = values[~missing]
    if len(known):
        rank[~missing] = 2 * (_mid_ranks(known) - 0.5) / len(known) - 1
    return np.stack([rank, missing.astype(np.float64)], axis=1)


def _one_hot(texts: Sequence[str]) -> Floats:
    kept = {text: i for i, (text, _) in enumerate(Counter(texts).most_common(TEXTS))}
    codes = [kept.get(text, TEXTS) for text in texts]
    return np.eye(TEXTS + 1, dtype=np.float64)[codes]


def _design(sources: Sequence[Floats]) -> Floats:
    """Return the classifier's columns: 1, each number with its square, products of pairs of
    numbers, and whether a text is the one."""
    ranks = [source[:, 0] for source in sources if source.shape[1] == 2]
    columns = [np.ones(len(sources[0])), *_squares_and_products(ranks)]
    return np.concatenate([np.stack(columns, axis=1), *sources], axis=1)


def _squares_and_products(ranks: Sequence[Floats]) -> Iterator[Floats]:
    for i, rank in enumerate(ranks):
        yield rank * rank
        if len(ranks) <= MOST_PAIRED:
            for other in ranks[:i]:
                yield rank * other


def _fit(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Return the coefficients of a ridge logistic regression (Newton's method)."""
    beta, ridge = np.zeros(x.shape[1]), np.full(x.shape[1], RIDGE)
    ridge[0] = 1e-6  # the constant is free
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        slope = x.T @ (weights * (p - y)) + ridge * beta
        curvature = (x * (weights * p * (1 - p))[:, None]).T @ x + np.diag(ridge)
        step = np.linalg.solve(curvature, slope)
        step *= min(1.0, LONGEST_STEP / max(float(np.abs(step).max()), 1e-12))
        beta = beta - step
        if np.abs(step).max() < 1e-6:
            break
    return beta


def _area(scores: Floats, labels: Floats) -> float:
    """Return the area under the ROC curve, by ranks."""
    ones = labels == 1
    n, m = int(ones.sum()), int((~ones).sum())
    return float((_mid_ranks(scores)[ones].sum() - n * (n + 1) / 2) / (n * m))


def _mid_ranks(values: Floats) -> Floats:
    """Return ranks from 1 on; equal values share the middle of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
