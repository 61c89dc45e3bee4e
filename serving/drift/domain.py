"""Whether a window can be told from training by all features together: a domain classifier. Pure.

A change in how features go together leaves each one's own distribution as it was. So a logistic
regression is asked which side a row is from, and how well it does on rows that it has not seen is
the answer: at an area under the ROC curve of 0.5 it can't tell. (Lopez-Paz and Oquab, "Revisiting
Classifier Two-Sample Tests", 2017.)

Rows next to each other in time are alike: so each side is cut into stretches of time, each stretch
is foretold from the others, and the interval is that of the stretches' areas. And weeks differ
though nothing has happened: so stretches of training, as long as the window, are told from the rest
of training in the same way, and a window differs where it is told apart better than any of them.
"""

from __future__ import annotations

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
MOST_PAIRED = 20
"""Products of pairs are looked at for at most so many numbers."""
USUAL = 6
"""So many stretches of training, the latest ones, are told from the rest of it."""
RIDGE, STEPS, LONGEST_STEP = 1.0, 25, 2.0
SEED = 1

Floats = NDArray[np.float64]


class Rows(Protocol):
    """Feature values of n rows: ``numeric`` (n, F), ``categories`` C columns of n texts, and their
    event times (n,), in any order."""

    @property
    def numeric(self) -> Floats:
        """Return the numbers; NaN is missing."""
        ...

    @property
    def categories(self) -> list[list[str]]:
        """Return the texts."""
        ...

    @property
    def times_ms(self) -> NDArray[np.int64]:
        """Return the event times."""
        ...


@dataclass(frozen=True)
class Needed:
    """A feature, and by how much the area shrinks where its values are shuffled."""

    feature: str
    drop: float


@dataclass(frozen=True)
class Separability:
    """How well the sides are told apart: ``auc`` on rows not seen, its 95 % interval, the rows of
    each side, and the features by what they contribute, the most first. ``usual`` are the areas for
    stretches of training against the rest of it, ascending; none where training is shorter than
    two windows."""

    auc: float
    low: float
    high: float
    n: int
    n_reference: int
    features: Sequence[Needed]
    usual: tuple[float, ...] = ()

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the interval leaves out 0.5, and training's own stretches are told less well."""
        return self.low > 0.5 and self.auc > max(self.usual, default=0.5)


@dataclass(frozen=True)
class _Side:
    """A side's rows in the order of time."""

    numeric: Floats
    categories: list[list[str]]
    times_ms: NDArray[np.int64]

    def at(self, rows: NDArray[np.int64]) -> _Side:
        kept = rows.tolist()
        texts = [[column[i] for i in kept] for column in self.categories]
        return _Side(self.numeric[rows], texts, self.times_ms[rows])


def separability(
    reference: Rows, window: Rows, numeric: Sequence[str], categories: Sequence[str]
) -> Separability | None:
    """Return how well ``window`` can be told from ``reference``, or None where a side has fewer
    than ten rows a stretch; ``numeric`` and ``categories`` are the names of the columns."""
    known, seen = _in_order(reference), _in_order(window)
    if min(len(known.times_ms), len(seen.times_ms)) < 10 * STRETCHES:
        return None
    names = [*numeric, *categories]
    areas, drops, lengths = _told_apart(known, seen, count_drops=True)
    auc, spread = float(np.mean(areas)), float(np.std(areas, ddof=1))
    half = T_95 * spread / STRETCHES**0.5
    needed = [Needed(n, float(d)) for n, d in zip(names, drops, strict=True)]
    return Separability(
        auc, max(0.0, auc - half), min(1.0, auc + half), lengths[1], lengths[0],
        sorted(needed, key=lambda each: (-each.drop, each.feature)),
        tuple(sorted(_usual(known, int(seen.times_ms[-1] - seen.times_ms[0]) + 1))),
    )  # fmt: skip


def _usual(reference: _Side, length_ms: int) -> Iterator[float]:
    """Yield how well each of the latest stretches of this length is told from the rest."""
    times = reference.times_ms
    age = (times[-1] - times) // length_ms
    whole = int(times[-1] - times[0] + 1) // length_ms
    for number in range(min(USUAL, whole) if whole > 1 else 0):
        inside, rest = (np.flatnonzero(chosen) for chosen in (age == number, age != number))
        if min(len(inside), len(rest)) >= 10 * STRETCHES:
            areas, _, _ = _told_apart(reference.at(rest), reference.at(inside))
            yield float(np.mean(areas))


def _told_apart(
    one: _Side, other: _Side, count_drops: bool = False
) -> tuple[list[float], Floats, list[int]]:
    """Return the area of each stretch, by how much it shrinks on average where a feature's values
    are shuffled, (features,), and the rows looked at on each side."""
    sides = [_thinned(side) for side in (one, other)]
    lengths = [len(side.times_ms) for side in sides]
    sources = _sources(sides)
    labels = np.repeat([0.0, 1.0], lengths)
    weights = np.repeat([0.5 / n for n in lengths], lengths) * sum(lengths)
    stretch = np.concatenate([np.arange(n) * STRETCHES // n for n in lengths])
    areas, drops = [], np.zeros((STRETCHES, len(sources)))
    random = np.random.default_rng(SEED)
    whole = _design(sources)
    for held in range(STRETCHES):
        seen, unseen = stretch != held, stretch == held
        fitted = _fit(whole[seen], labels[seen], weights[seen])
        areas.append(_area(whole[unseen] @ fitted, labels[unseen]))
        rest = [source[unseen] for source in sources]
        for i, source in enumerate(rest if count_drops else ()):
            shuffled = [*rest[:i], source[random.permutation(len(source))], *rest[i + 1 :]]
            drops[held, i] = areas[-1] - _area(_design(shuffled) @ fitted, labels[unseen])
    return areas, drops.mean(axis=0), lengths


def _in_order(side: Rows) -> _Side:
    every = _Side(side.numeric, side.categories, side.times_ms)
    return every.at(np.argsort(side.times_ms, kind="stable"))


def _thinned(side: _Side) -> _Side:
    n = len(side.times_ms)
    return side.at(np.arange(0, n, max(1, -(-n // ROWS))))


def _sources(sides: Sequence[_Side]) -> list[Floats]:
    """Return per feature what the design is made of, over both sides: of a number (n, 2) its rank
    in [-1, 1] and whether it is missing, of a category (n, texts) which text it is."""
    numbers = np.concatenate([side.numeric for side in sides])
    return [
        *(_ranked(numbers[:, i]) for i in range(numbers.shape[1])),
        *(
            _one_hot([text for side in sides for text in side.categories[i]])
            for i in range(len(sides[0].categories))
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
