"""Streams with known drifts: STAGGER, Agrawal and RandomRBF as OPTWIN's authors set them up.

100,000 instances, another concept after every 20,000 (so four drifts), at once or within 1,000
instances; the concepts and their order, MOA's defaults and one seed for all concepts of a stream
are theirs (github.com/maurodlt/OptWin, the scripts of the classification experiments). The
generators are river's, which are made after MOA's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTH = 100_000
EVERY = 20_000
WIDTH = 1_000
SPARE = 1_000  # by so many the draws of a gradual change may differ from 20,000
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
    """Return the generator of a concept: MOA's functions 1, 2, 3, 1, 2."""
    from river.datasets.synth import STAGGER

    return STAGGER(classification_function=concept % 3, seed=seed)


def agrawal(concept: int, seed: int) -> Any:
    """Return the generator of a concept: MOA's functions 5 to 1, and its noise of the inputs."""
    from river.datasets.synth import Agrawal

    return Agrawal(classification_function=4 - concept, seed=seed, perturbation=0.05)


def random_rbf(concept: int, seed: int) -> Any:
    """Return the generator of a concept: its centres are those of the model seeds 1 to 5."""
    from river.datasets.synth import RandomRBF

    return RandomRBF(seed_model=concept + 1, seed_sample=seed)


TASKS: dict[str, tuple[Callable[[int, int], Any], dict[str, int]]] = {
    "STAGGER": (stagger, {"size": 3, "color": 3, "shape": 3}),
    "Agrawal": (agrawal, {"elevel": 5, "car": 21, "zipcode": 9}),
    "RandomRBF": (random_rbf, {}),
}
"""Name → generator of a concept, and which inputs are codes below which number."""


def concepts_of(task: str, seed: int, n: int = EVERY + SPARE) -> list[Instances]:
    """Return ``n`` instances of each concept, all of one seed; so many are enough for
    :func:`stream`."""
    generator, codes = TASKS[task]
    found = []
    for concept in range(LENGTH // EVERY):
        made = list(generator(concept, seed).take(n))
        names = list(made[0][0])
        inputs = np.array([[x[name] for name in names] for x, _ in made], np.float64)
        classes = np.array([y for _, y in made], np.int64)
        found.append(Instances(inputs, classes, np.array([codes.get(n, 0) for n in names])))
    return found


def stream(concepts: list[Instances], seed: int, gradual: bool) -> Instances:
    """Return 20,000 instances of each concept, one after the other; gradually the share of the next
    one follows the sigmoid of MOA's ConceptDriftStream."""
    ahead = np.arange(LENGTH) / EVERY  # which concept it is the turn of
    chosen = ahead.astype(np.int64)
    if gradual:
        nearest = np.clip(np.round(ahead), 1, len(concepts) - 1)  # the next or last drift
        away = np.arange(LENGTH) - nearest * EVERY
        share = 1 / (1 + np.exp(-4 * np.clip(away, -5_000, 5_000) / WIDTH))
        later = np.random.default_rng(seed).random(LENGTH) < share
        chosen = (nearest - 1 + later).astype(np.int64)
    inputs = np.empty((LENGTH, concepts[0].inputs.shape[1]))
    classes = np.empty(LENGTH, np.int64)
    for at, concept in enumerate(concepts):
        rows = np.flatnonzero(chosen == at)
        inputs[rows], classes[rows] = concept.inputs[: len(rows)], concept.classes[: len(rows)]
    return Instances(inputs, classes, concepts[0].sizes)
