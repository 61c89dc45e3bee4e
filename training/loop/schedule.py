"""What is random or scheduled in training, as functions of (seed, epoch, step). numpy only."""

import math

import numpy as np
from numpy.typing import NDArray

WARM_UP = 0.2  # share of the steps in which the learning rate rises
START = 0.04  # of the peak
END = 0.001  # of the peak
UNKNOWN_SHARE = 0.01  # of the codes; trains the vector that stands for unknown categories


def learning_rate(step: int, steps: int) -> float:
    """Return the one-cycle factor (Smith 2018) of ``step`` out of ``steps``: cosine up and down.

    >>> [round(learning_rate(step, 10), 3) for step in (0, 2, 10)]
    [0.04, 1.0, 0.001]
    """
    peak = max(1.0, WARM_UP * steps)
    if step < peak:
        return _cosine(START, 1.0, step / peak)
    return _cosine(1.0, END, min(1.0, (step - peak) / max(1.0, steps - peak)))


def batches_of_epoch(
    examples: int, global_rows: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Return the epoch's global batches: row numbers, each row once, sizes equal within one."""
    order = np.random.default_rng([seed, epoch, 0]).permutation(examples)
    return np.array_split(order, math.ceil(examples / global_rows))


def masked_codes(codes: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Return codes (n, C) of which a small share, chosen anew each epoch, became 0 (unknown)."""
    chosen = np.random.default_rng([seed, epoch, 1]).random(codes.shape) < UNKNOWN_SHARE
    return np.where(chosen, 0, codes)


def dropout_seed(seed: int, epoch: int, rank: int) -> int:
    """Return the seed of a rank's dropout in an epoch."""
    return int(np.random.SeedSequence([seed, epoch, rank, 2]).generate_state(1, np.uint64)[0] >> 1)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
