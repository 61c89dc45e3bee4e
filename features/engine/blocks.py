"""Taking blocks of tiles apart and putting them together again, for snapshots."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Pieces:
    """Hands out an array of ``n`` values piece by piece; ValueError where it has more or fewer."""

    def __init__(self, array: NDArray[Any], n: int) -> None:
        if array.shape != (n,):
            raise ValueError(f"an array of shape {array.shape} where {n} values are needed")
        self._array = array
        self._at = 0

    def take(self, n: int) -> NDArray[Any]:
        """Return the next ``n`` values."""
        self._at += n
        return self._array[self._at - n : self._at]


def rooms(levels: NDArray[np.int64], first: int, most: int) -> NDArray[np.int64]:
    """Return the places of blocks, shape as ``levels``."""
    made: NDArray[np.int64] = np.minimum(first << levels, most)
    return made


def levels_for(sizes: NDArray[np.int64], first: int, most: int) -> NDArray[np.int64]:
    """Return the levels of the smallest blocks that hold so many tiles, shape as ``sizes``."""
    levels = np.zeros(len(sizes), dtype=np.int64)
    while (small := rooms(levels, first, most) < sizes).any():
        levels += small
    return levels


def stretches(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return all places of the stretches [start, start + size), one after the other."""
    before = np.cumsum(sizes) - sizes
    places: NDArray[np.int64] = np.repeat(starts - before, sizes) + np.arange(sizes.sum())
    return places


def enlarge(pool: NDArray[np.float64], needed: int) -> None:
    """Give a pool half as much room again, or ``needed`` values if that is more; in place.

    The operating system moves the pages of a large one, so nothing is copied.
    """
    pool.resize(max(needed, len(pool) + len(pool) // 2), refcheck=False)
