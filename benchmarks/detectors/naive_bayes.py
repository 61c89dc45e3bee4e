"""Naive Bayes that is tested on each instance and then learns it: the learner of the tasks.

Codes are counted with one instance more than seen of each (Laplace); numbers are normal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.detectors.tasks import Instances
from streams.compiled import compiled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SMALLEST = 1e-9


class NaiveBayes:
    """The learner, of two classes."""

    def __init__(self, instances: Instances) -> None:
        self._of = instances
        self.reset()

    def reset(self) -> None:
        """Forget all."""
        inputs = self._of.inputs.shape[1]
        widest = max(1, int(self._of.sizes.max(initial=0)))
        self._seen = np.zeros(2)
        self._counts = np.zeros((inputs, widest, 2))
        self._moments = np.zeros((inputs, 2, 2))

    def errors(self, begin: int, end: int) -> Floats:
        """Test and learn instances [begin, end); returns whether each answer was wrong."""
        wrong = np.empty(end - begin)
        given = self._of
        _test_then_train(
            given.inputs[begin:end], given.classes[begin:end], given.sizes, self._seen,
            self._counts, self._moments, wrong,
        )  # fmt: skip
        return wrong


@compiled
def _test_then_train(
    inputs: Floats,
    classes: Ints,
    sizes: Ints,
    seen: Floats,
    counts: Floats,
    moments: Floats,
    wrong: Floats,
) -> None:
    """``moments`` (inputs, 2, 2): mean and sum of squared distances, per class."""
    log_odds = np.zeros(2)
    for i in range(len(inputs)):
        for c in range(2):
            log_odds[c] = np.log(seen[c] + 1.0)
            for j in range(inputs.shape[1]):
                x = inputs[i, j]
                if sizes[j] > 0:
                    log_odds[c] += np.log((counts[j, int(x), c] + 1.0) / (seen[c] + sizes[j]))
                elif seen[c] > 1.0:
                    variance = max(moments[j, c, 1] / (seen[c] - 1.0), SMALLEST)
                    away = x - moments[j, c, 0]
                    log_odds[c] -= 0.5 * (np.log(variance) + away * away / variance)
        y = classes[i]
        answer = 1 if log_odds[1] > log_odds[0] else 0
        wrong[i] = 1.0 if answer != y else 0.0
        seen[y] += 1.0
        for j in range(inputs.shape[1]):
            x = inputs[i, j]
            if sizes[j] > 0:
                counts[j, int(x), y] += 1.0
            else:
                before = x - moments[j, y, 0]
                moments[j, y, 0] += before / seen[y]
                moments[j, y, 1] += before * (x - moments[j, y, 0])
