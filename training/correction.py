"""What weights and sampling do to the probabilities, and how it is undone. numpy only.

A network that saw class c with f_c times its share learns p_c f_c / Σ p f in place of p_c. Taking
ln f_c off its logit gives p back, exactly (King & Zeng 2001, appendix B; for dropped negatives Dal
Pozzolo et al. 2015). Calibration comes after, on examples that are neither weighted nor dropped.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.networks.tasks import Binary, MultiClass, Task

Floats = NDArray[np.float64]


def class_factors(
    task: Task,
    targets: Floats,
    weights: NDArray[np.float32] | NDArray[np.float64],
    class_weight: Literal["balanced"] | float | None,
) -> Floats:
    """Return the factor by which the examples of each class count, (classes,); empty of none.

    Args:
        task: the classes; a regression has none.
        targets: (n,) of the training examples that are kept.
        weights: (n,) that they have without these factors.
        class_weight: see :class:`training.spec.Model`. "balanced" gives each class the same sum of
            weights; a class without examples keeps its factor of 1.
    """
    match task:
        case Binary():
            count = 2
        case MultiClass(classes=classes):
            count = len(classes)
        case _:
            count = 0
    factors = np.ones(count)
    if not count or class_weight is None:
        return factors
    if class_weight != "balanced":
        factors[1] = class_weight
        return factors
    sums = np.bincount(targets.astype(np.int64), np.asarray(weights, np.float64), minlength=count)
    there = sums > 0
    factors[there] = sums.sum() / (there.sum() * sums[there])
    return factors


def shifts(task: Task, factors: Floats, keep_negatives: float = 1.0) -> tuple[float, ...]:
    """Return what is taken off the network's logits, one number each.

    Two classes have one logit, ln of the odds of class 1, which a dropped class 0 raises by
    −ln(keep_negatives); more classes have one each. Without classes there is nothing to undo.
    """
    logs = np.log(factors)
    if isinstance(task, Binary):
        return (float(logs[1] - logs[0]) - math.log(keep_negatives),)
    return tuple(logs.tolist())
