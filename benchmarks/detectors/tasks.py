"""Streams with known drifts: STAGGER, Agrawal and RandomRBF as OPTWIN's authors set them up.

100,000 instances, another concept after every 20,000 (so four drifts), at once or within 1,000
instances. The generators are river's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTH = 100_000
EVERY = 20_000
WIDTH = 1_000
DRIFTS = tuple(range(EVERY, LENGTH, EVERY))

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Instances:
    """``inputs`` (n, d), where the columns of ``sizes[j]`` > 0 hold codes below that, and
    ``classes`` (n,)."""

    inputs: Floats
    classes: NDArray[np.int64]
    sizes: NDArray[np.int64]


def stagger(concept: int, seed: int) -> Any:
    """Return the generator of a concept."""
    from river.datasets.synth import STAGGER

    return STAGGER(classification_function=concept % 3, seed=seed)


def agrawal(concept: int, seed: int) -> Any:
    """Return the generator of a concept."""
    from river.datasets.synth import Agrawal

    return Agrawal(classification_function=concept % 10, seed=seed)


def random_rbf(concept: int, seed: int) -> Any:
    """Return the generator of a concept: its centres are drawn anew."""
    from river.datasets.synth import RandomRBF

    return RandomRBF(seed_model=1_000 * seed + concept, seed_sample=seed)


TASKS: dict[str, tuple[Callable[[int, int], Any], dict[str, int]]] = {
    "STAGGER": (stagger, {"size": 3, "color": 3, "shape": 3}),
    "Agrawal": (agrawal, {"elevel": 5, "car": 21, "zipcode": 9}),
    "RandomRBF": (random_rbf, {}),
}
"""Name → generator of a concept, and which inputs are codes below which number."""


def make(task: str, seed: int, gradual: bool) -> Instances:
    """Return the stream: concept c, c + 1, … where c is the seed's, 20,000 instances each."""
    generator, codes = TASKS[task]
    concepts = LENGTH // EVERY
    rng = np.random.default_rng(seed)
    ahead = np.arange(LENGTH) / EVERY  # which concept it is the turn of
    if gradual:
        away = (np.arange(LENGTH) - EVERY / 2) % EVERY - EVERY / 2  # from the next or last drift
        nearest = np.clip(np.round(ahead), 1, concepts - 1)
        later = rng.random(LENGTH) < 1 / (1 + np.exp(-4 * np.clip(away, -5_000, 5_000) / WIDTH))
        chosen = (nearest - 1 + later).astype(np.int64)
    else:
        chosen = ahead.astype(np.int64)
    classes = np.empty(LENGTH, np.int64)
    inputs: Floats | None = None
    names: list[Any] = []
    for at in range(concepts):
        rows = np.flatnonzero(chosen == at)
        made = generator(seed + at, 7_919 * seed + at).take(len(rows))
        first = next(iter(made))
        if inputs is None:
            names = list(first[0])
            inputs = np.empty((LENGTH, len(names)))
        for row, (x, y) in zip(rows.tolist(), itertools.chain([first], made), strict=True):
            inputs[row] = [x[name] for name in names]
            classes[row] = y
    if inputs is None:
        raise ValueError("a stream has at least one concept")
    return Instances(inputs, classes, np.array([codes.get(name, 0) for name in names]))
