"""What an example counts in training: by age, by class, and whether it is kept at all. numpy only.

What class weights and dropped negatives do to the probabilities is undone by
:mod:`training.correction`. The validation slice stays as the log has it.
"""

import numpy as np
from numpy.typing import NDArray

from streams.durations import seconds
from training.correction import class_factors
from training.dataset.draws import uniform
from training.dataset.prepared import Examples
from training.spec import Model

_KEEPING = 5  # what draws are for


def recency_weights(
    event_times_ms: NDArray[np.int64], half_life: str | None
) -> NDArray[np.float32]:
    """Return weights (n,) of mean 1 that halve with every ``half_life`` of age; the newest is 0."""
    if half_life is None:
        return np.ones(len(event_times_ms), np.float32)
    age_s = (event_times_ms.max() - event_times_ms) / 1000
    weights = np.exp2(-age_s / seconds(half_life))
    normalised: NDArray[np.float32] = (weights / weights.mean()).astype(np.float32)
    return normalised


def kept_rows(examples: Examples, model: Model, seed: int) -> NDArray[np.int64] | None:
    """Return the rows of the training slice that are trained on, None for all.

    Whether a negative is kept depends on the seed and its place in the log alone.
    """
    if model.keep_negatives == 1:
        return None
    places = np.arange(len(examples))[:, None] if examples.places is None else examples.places
    draws = uniform((seed, _KEEPING), *places.T)
    return np.flatnonzero((examples.targets != 0) | (draws < model.keep_negatives))


def example_weights(
    targets: NDArray[np.float64], event_times_ms: NDArray[np.int64], model: Model
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the weights (n,) of the examples that are trained on, of mean 1, and the factors of
    the classes in them, (classes,)."""
    weights = recency_weights(event_times_ms, model.half_life)
    factors = class_factors(model.task, targets, weights, model.class_weight)
    if model.class_weight is None or not len(factors):
        return weights, factors
    weighted = weights * factors[targets.astype(np.int64)]
    return (weighted / weighted.mean()).astype(np.float32), factors
