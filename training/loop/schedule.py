"""What is scheduled or random in training, as functions of (seed, epoch, step). numpy only."""

import math

import numpy as np

from training.spec import RateSchedule

WARM_UP = 0.2  # share of the steps in which the learning rate rises
START = 0.04  # of the peak
END = 0.001  # of the peak
_GOLDEN = 0x9E3779B97F4A7C15  # 2⁶⁴ / golden ratio: seeds of neighbouring steps lie far apart


def rate(schedule: RateSchedule, step: int, steps: int) -> float:
    """Return the share of the peak learning rate at ``step`` (from 0) out of ``steps``.

    "one_cycle" (Smith 2018) rises and falls as a cosine, "cosine" (Loshchilov & Hutter 2016) falls
    from the peak, "constant" stays.

    >>> [round(rate("one_cycle", step, 10), 3) for step in (0, 2, 10)]
    [0.04, 1.0, 0.001]
    >>> [round(rate("cosine", step, 10), 3) for step in (0, 5, 10)]
    [1.0, 0.5, 0.001]
    """
    match schedule:
        case "constant":
            return 1.0
        case "cosine":
            return _cosine(1.0, END, min(1.0, step / max(1, steps)))
        case "one_cycle":
            peak = max(1.0, WARM_UP * steps)
            if step < peak:
                return _cosine(START, 1.0, step / peak)
            return _cosine(1.0, END, min(1.0, (step - peak) / max(1.0, steps - peak)))


def dropout_seed(seed: int, epoch: int, share: int) -> int:
    """Return the seed of an epoch's dropout for the ranks that read one share of each batch."""
    return int(np.random.SeedSequence([seed, epoch, share, 2]).generate_state(1, np.uint64)[0] >> 1)


def step_seed(epoch_seed: int, step: int) -> int:
    """Return the seed of one step of the epoch, a whole number in [0, 2⁶³)."""
    return ((epoch_seed + (step + 1) * _GOLDEN) & 0xFFFFFFFFFFFFFFFF) >> 1


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
