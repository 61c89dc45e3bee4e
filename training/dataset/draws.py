"""Random numbers that belong to a place: functions of (seed, counters), drawn in any order.

Splitmix64 (Steele, Lea & Flood 2014) over the counters, so the draw of a row does not depend on
which rows were drawn before it: any batch can be made by itself, and a row that comes again in
another order has the same fate. Not for cryptography. numpy only.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ / golden ratio
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_UNIT = 2.0**-53


def uniform(words: tuple[int, ...], *counters: NDArray[Any]) -> NDArray[np.float64]:
    """Return one number in [0, 1) for each place.

    Args:
        words: what is the same for all: the seed, the epoch, what the numbers are for.
        counters: integer arrays that broadcast together; a place is what they say of it.
    """
    state = np.zeros((), np.uint64)
    for word in words:
        state = _mixed(state, np.asarray(word & 0xFFFFFFFFFFFFFFFF, np.uint64))
    for counter in counters:
        state = _mixed(state, counter.astype(np.int64).view(np.uint64))
    return (state >> np.uint64(11)).astype(np.float64) * _UNIT


def _mixed(state: NDArray[np.uint64], value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):  # of scalars; arrays wrap silently
        mixed: NDArray[np.uint64] = state + (value + np.uint64(1)) * _STEP
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
        mixed ^= mixed >> np.uint64(31)
        return mixed
