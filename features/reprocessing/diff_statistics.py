"""What is counted when two columns of one feature are compared, chunk by chunk.

Everything adds up over chunks in bounded memory; the order of chunks is the order of the log, so
the figures do not depend on how it was cut but for the last bits of sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
ACCURACY = 0.01
"""A quantile is told within 1 % of its value."""

_SMALLEST = 1e-300
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA = math.log(_GAMMA)
_LARGEST = float(np.finfo(np.float64).max)
_LOG_SMALLEST = math.log(_SMALLEST)
_BINS = math.ceil((math.log(_LARGEST) - _LOG_SMALLEST) / _LOG_GAMMA) + 1


@dataclass(frozen=True, slots=True)
class FeatureDifference:
    """How one feature differs between two versions, over the rows that both have.

    ``equal`` rows hold the same bits (or text), or are missing on both sides; ``missing_left`` and
    ``missing_right`` are shares of all rows. The figures of numbers are over the rows where both
    sides have one; None where there are none, and for categories. Differences are right − left.
    """

    name: str
    kind: str
    rows: int
    equal: int
    missing_left: float
    missing_right: float
    mean_absolute: float | None = None
    max_absolute: float | None = None
    quantiles: dict[str, float] | None = None
    correlation: float | None = None

    @property
    def differing(self) -> int:
        """Rows that are not equal."""
        return self.rows - self.equal


@dataclass
class CategoryColumn:
    """The comparison of one category feature, so far."""

    name: str
    rows: int = 0
    equal: int = 0
    missing_left: int = 0
    missing_right: int = 0

    def add(
        self,
        equal: NDArray[np.bool_],
        missing_left: NDArray[np.bool_],
        missing_right: NDArray[np.bool_],
    ) -> None:
        """Count rows; all of shape (n,)."""
        self.rows += len(equal)
        self.equal += int(equal.sum())
        self.missing_left += int(missing_left.sum())
        self.missing_right += int(missing_right.sum())

    def result(self) -> FeatureDifference:
        """Return the figures."""
        return FeatureDifference(
            self.name,
            "category",
            self.rows,
            self.equal,
            _share(self.missing_left, self.rows),
            _share(self.missing_right, self.rows),
        )


@dataclass
class NumberColumn:
    """The comparison of one numeric feature, so far; NaN is missing."""

    name: str
    rows: int = 0
    equal: int = 0
    missing_left: int = 0
    missing_right: int = 0
    absolute: float = 0.0
    largest: float = 0.0
    moments: Moments = field(default_factory=lambda: Moments())
    sketch: DifferenceSketch = field(default_factory=lambda: DifferenceSketch())

    def add(self, left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Count rows of shape (n,), and return which of them are equal."""
        no_left, no_right = np.isnan(left), np.isnan(right)
        # By bits, so that -0.0 is not 0.0; all that are missing are equal.
        equal: NDArray[np.bool_] = (left.view(np.int64) == right.view(np.int64)) | (
            no_left & no_right
        )
        self.rows += len(left)
        self.equal += int(equal.sum())
        self.missing_left += int(no_left.sum())
        self.missing_right += int(no_right.sum())
        both = ~(no_left | no_right)
        x, y = left[both], right[both]
        if len(x):
            with np.errstate(over="ignore", invalid="ignore"):  # told as infinite or not at all
                difference = y - x
                self.absolute += float(np.abs(difference).sum())
                self.largest = max(self.largest, float(np.abs(difference).max()))
                self.moments.add(x, y)
                self.sketch.add(difference)
        return equal

    def result(self) -> FeatureDifference:
        """Return the figures."""
        n = self.moments.n
        return FeatureDifference(
            self.name,
            "numeric",
            self.rows,
            self.equal,
            _share(self.missing_left, self.rows),
            _share(self.missing_right, self.rows),
            self.absolute / n if n else None,
            self.largest if n else None,
            {f"{q:g}": self.sketch.quantile(q) for q in QUANTILES} if n else None,
            self.moments.correlation(),
        )


@dataclass
class Moments:
    """Means and co-moments of pairs, merged chunk by chunk (Chan, Golub and LeVeque, 1979)."""

    n: int = 0
    mean_x: float = 0.0
    mean_y: float = 0.0
    xx: float = 0.0
    yy: float = 0.0
    xy: float = 0.0

    def add(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        """Take n ≥ 1 pairs, both of shape (n,)."""
        n, mean_x, mean_y = len(x), float(x.mean()), float(y.mean())
        off_x, off_y = x - mean_x, y - mean_y
        total = self.n + n
        dx, dy, weight = mean_x - self.mean_x, mean_y - self.mean_y, self.n * n / total
        self.xx += float(off_x @ off_x) + dx * dx * weight
        self.yy += float(off_y @ off_y) + dy * dy * weight
        self.xy += float(off_x @ off_y) + dx * dy * weight
        self.mean_x += dx * n / total
        self.mean_y += dy * n / total
        self.n = total

    def correlation(self) -> float | None:
        """Return Pearson's; None where a side does not vary or is too large."""
        spread = math.sqrt(self.xx) * math.sqrt(self.yy)
        if not (0 < spread < math.inf and math.isfinite(self.xy)):
            return None
        return max(-1.0, min(1.0, self.xy / spread))


class DifferenceSketch:
    """Counts of signed numbers in bins of equal relative width.

    As DDSketch (Masson, Rim and Lee, VLDB 2019) does it, with bins enough for every double. Below
    1e-300 a number counts as 0.
    """

    def __init__(self) -> None:
        self._below = np.zeros(0, dtype=np.int64)
        self._above = np.zeros(0, dtype=np.int64)
        self._zero = 0

    def add(self, numbers: NDArray[np.float64]) -> None:
        """Count numbers of shape (n,), none of them NaN."""
        sizes = np.minimum(np.abs(numbers), _LARGEST)
        some = sizes > _SMALLEST
        self._zero += len(numbers) - int(some.sum())
        if not some.any():
            return
        if not len(self._above):
            self._below, self._above = np.zeros((2, _BINS), dtype=np.int64)
        bins = np.ceil((np.log(sizes[some]) - _LOG_SMALLEST) / _LOG_GAMMA).astype(np.int64)
        bins = bins.clip(0, _BINS - 1)
        negative = numbers[some] < 0
        self._below += np.bincount(bins[negative], minlength=_BINS)
        self._above += np.bincount(bins[~negative], minlength=_BINS)

    def quantile(self, q: float) -> float:
        """Return the q-th quantile within 1 % of its value; 0 where nothing was counted."""
        counts = np.concatenate([self._below[::-1], [self._zero], self._above])
        rank = q * (counts.sum() - 1)
        place = int(np.searchsorted(np.cumsum(counts), rank, side="right"))
        middle = len(self._below)
        if place == middle:
            return 0.0
        if place < middle:
            return -_middle_of(middle - 1 - place)
        return _middle_of(place - middle - 1)


def _middle_of(number: int) -> float:
    log = _LOG_SMALLEST + number * _LOG_GAMMA + math.log(2 / (1 + _GAMMA))
    return math.exp(min(log, math.log(_LARGEST)))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
