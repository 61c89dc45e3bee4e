"""A scan for the most likely change in a stream of losses: the detector used by default.

At each value, and at each cut of the values since the last alarm into an older part of n₁ with mean
m₁ and a newer one of n₂ with m₂, G says how improbable, in nats, the difference of the means is:

*errors of 0 and 1*: the generalised likelihood ratio n₁ kl(m₁, m) + n₂ kl(m₂, m), m being the mean
of all and kl the divergence of Bernoulli distributions;

*other losses*: the exponent of Chernoff's bound for a gamma distribution with the variance s² and
the third cumulant κ of all of them, n (Δ/θ − a ln(1 + Δ/(a θ))), where Δ = m₂ − m₁,
n = n₁ n₂ / (n₁ + n₂), θ = κ / (2 s²) and a = s² / θ². For many values it is that of a normal
distribution, n Δ² / (2 s²); of few it allows for the exponential tail that the log losses of
calibrated scores have.

The largest G + ln n₂ over the cuts is compared with a bound: among as many values there are fewer
independent pieces of n₂, the longer these are, so by the logarithm each length of the newer part
gets the same share of the false alarms (the calibration of scales of Dümbgen and Spokoiny 2001).
A rise is an alarm, a fall forgets what was before it, so that what improved can be seen to get
worse again. The likelihood ratio is what makes
it quick where errors are rare: two errors after 20,000 right answers say more than a difference of
means does. The scan is that of Siegmund and Venkatraman (1995); of bounded values see Maillard
(2019) and Besson et al. (2022). Cuts lie where an exponential histogram has them (Bifet and Gavaldà
2007, ADWIN's), :data:`KEPT` per doubling of age, and older ones are tried less often, so a value
costs the same however long the stream is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.concept.detector import Floats
from streams.compiled import compiled

KEPT = 16
"""Cuts per doubling of age."""
LEVELS = 40
SHORTEST = 30
"""The older part has at least so many values."""
# False alarms per value are at most RATE · exp(−bound): measured, see docs/concept_drift.md.
RATE = 48.0


def bound(rate: float) -> float:
    """Return the evidence that stationary values pass with at most ``rate`` per value."""
    return math.log(RATE / rate)


class Scan:
    """The detector; satisfies :class:`serving.concept.detector.Detector`.

    Args:
        rate: false alarms per value of a stream whose mean does not change.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.onset = 0
        self.span = 0
        self._largest = 0.0
        self._reset()

    def _reset(self) -> None:
        self._sums = np.zeros((LEVELS, KEPT + 2, 3))
        self._held = np.zeros(LEVELS, np.int64)
        self._seen = np.zeros(1, np.int64)

    def update(self, values: Floats, dispersion: float = 1.0) -> int | None:
        """Take values up to the first alarm and return its index; see the protocol."""
        found = np.zeros(2)
        index = int(
            _scan(
                np.ascontiguousarray(values, np.float64), self._sums, self._held, self._seen,
                bound(self.rate), max(1.0, dispersion), found,
            )
        )  # fmt: skip
        self._largest = float(found[0])
        self.span = int((self._held << np.arange(LEVELS)).sum())
        if index < 0:
            return None
        self.onset = int(found[1])
        self._reset()
        return index

    @property
    def chance(self) -> float:
        """How often a stationary value has evidence as large as the last update's largest had."""
        return min(1.0, RATE * math.exp(-self._largest))

    def snapshot(self) -> tuple[Any, Mapping[str, NDArray[Any]]]:
        """Return (JSON, arrays)."""
        return {"onset": self.onset, "span": self.span, "largest": self._largest}, {
            "sums": self._sums.copy(),
            "held": self._held.copy(),
            "seen": self._seen.copy(),
        }

    def load(self, content: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`snapshot` returned."""
        self.onset, self.span = int(content["onset"]), int(content["span"])
        self._largest = float(content["largest"])
        self._sums = np.array(arrays["sums"], np.float64)
        self._held = np.array(arrays["held"], np.int64)
        self._seen = np.array(arrays["seen"], np.int64)


@compiled
def _scan(
    values: Floats,
    sums: NDArray[np.float64],
    held: NDArray[np.int64],
    seen: NDArray[np.int64],
    height: float,
    dispersion: float,
    found: Floats,
) -> int:
    """Add values until one raises the alarm and return its index, or -1.

    ``sums`` (LEVELS, KEPT + 2, 3) are the sums of values, squares and cubes of the blocks, newest
    first, a block of level j being 2^j values; ``held`` (LEVELS,) how many there are.
    ``found``: the largest evidence of a rise, G + ln n₂, and the length of the newer part.
    """
    found[0] = 0.0
    carry, powers = np.zeros(3), np.zeros(3)
    for i in range(len(values)):
        # 1. The value is a block of its own; of a level too full, the two oldest become one.
        x = values[i]
        carry[0], carry[1], carry[2] = x, x * x, x * x * x
        seen[0] += 1
        for level in range(LEVELS):
            for k in range(held[level], 0, -1):
                for j in range(3):
                    sums[level, k, j] = sums[level, k - 1, j]
            for j in range(3):
                sums[level, 0, j] = carry[j]
            held[level] += 1
            if held[level] <= KEPT:
                break
            last = held[level] - 1
            for j in range(3):
                carry[j] = sums[level, last, j] + sums[level, last - 1, j]
            held[level] -= 2
        # 2. All that is kept, its mean, variance and third cumulant.
        n = 0
        powers[:] = 0.0
        for level in range(LEVELS):
            if held[level] == 0:
                break
            n += held[level] << level
            for k in range(held[level]):
                for j in range(3):
                    powers[j] += sums[level, k, j]
        total = powers[0]
        mean = total / n
        variance = powers[1] / n - mean * mean
        if n <= SHORTEST or variance <= 1e-12 * mean * mean:
            continue
        errors = powers[0] == powers[1] and powers[1] == powers[2]
        whole = total * np.log(mean) + (n - total) * np.log1p(-mean) if errors else 0.0
        third = powers[2] / n - 3.0 * mean * powers[1] / n + 2.0 * mean * mean * mean
        theta = 0.5 * third / variance
        # 3. The cuts whose turn it is: those of level j at every 2^j-th value.
        newer, newer_sum = 0, 0.0
        best, best_cut, rises = 0.0, 0, False
        for level in range(LEVELS):
            if held[level] == 0 or seen[0] % (1 << level) != 0:
                break
            for k in range(held[level]):
                newer += 1 << level
                newer_sum += sums[level, k, 0]
                older = n - newer
                if older < SHORTEST:
                    break
                older_sum = total - newer_sum
                m1, m2 = older_sum / older, newer_sum / newer
                if errors:
                    ratio = -whole
                    if older_sum > 0.0:
                        ratio += older_sum * np.log(m1)
                    if older_sum < older:
                        ratio += (older - older_sum) * np.log1p(-m1)
                    if newer_sum > 0.0:
                        ratio += newer_sum * np.log(m2)
                    if newer_sum < newer:
                        ratio += (newer - newer_sum) * np.log1p(-m2)
                else:
                    pairs = float(older) * float(newer) / n
                    far = (m2 - m1) * theta / variance
                    if far > 1e-4:
                        shape = variance / (theta * theta)
                        ratio = pairs * shape * (far - np.log1p(far))
                    else:  # the lighter tail, and where the difference of the two cancels
                        ratio = pairs * (m2 - m1) ** 2 / (2.0 * variance)
                ratio = ratio / dispersion + np.log(float(newer))
                if m2 > m1 and ratio > found[0]:
                    found[0] = ratio
                if ratio > best:
                    best, best_cut, rises = ratio, newer, m2 > m1
        if best <= height:
            continue
        # 4. Beyond the bound: a rise is the alarm, a fall forgets what was before it.
        if rises:
            found[1] = best_cut
            return i
        left = best_cut
        for level in range(LEVELS):
            kept = min(held[level], left >> level)
            left -= kept << level
            held[level] = kept
    return -1
