"""Sample-ratio mismatch: do the arms have as many units as their shares say?

Where they have not, something other than chance decides who is counted (answers that fail, labels
that are lost, entities assigned twice), and no difference between the arms means what it seems to.

The units are *entities*: these were assigned. The number of events of an arm hangs on its few
largest entities, and a test of events that takes them for independent cries wolf.

Two tests: chi-squared at one stated time, and one that holds at all times, the odds of the counts
under a Dirichlet prior against the stated shares (Lindon and Malek, "Anytime-valid inference for
multinomial count data", 2022): under these the odds ever reach 1/α with probability α at most.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import betaln, chdtrc, gammaln
from scipy.stats import beta

ALPHA = 0.001
PRIOR = 50.0
"""Weight of the prior: as if so many units had been seen in the stated shares."""


def chi_squared_p(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Return the p-value of Pearson's chi-squared test of counts against shares.

    >>> round(chi_squared_p([550, 450], [0.5, 0.5]), 6)
    0.001565
    """
    observed = np.asarray(counts, np.float64)
    expected = observed.sum() * np.asarray(shares, np.float64) / math.fsum(shares)
    if len(observed) < 2 or not observed.sum():
        return 1.0
    return float(chdtrc(len(observed) - 1, np.sum((observed - expected) ** 2 / expected)))


def log_odds(counts: Sequence[int], shares: Sequence[float], prior: float = PRIOR) -> float:
    """Return the logarithm of the odds against the shares; e to it is an e-value at all times.

    ``prior`` is the weight of a Dirichlet prior around the shares.
    """
    n = np.asarray(counts, np.float64)
    theta = np.asarray(shares, np.float64) / math.fsum(shares)
    a = prior * theta
    found = gammaln(prior) - gammaln(prior + n.sum()) + np.sum(gammaln(a + n) - gammaln(a))
    return float(found - n @ np.log(theta))


def is_mismatch(counts: Sequence[int], shares: Sequence[float], alpha: float = ALPHA) -> bool:
    """Return whether the counts contradict the shares; a false alarm ever has probability α."""
    return log_odds(counts, shares) >= -math.log(alpha)


def log_excess(hits: int, n: int, share: float) -> float:
    """Return the logarithm of the odds that more than ``share`` of n independent events are hits.

    The likelihood ratio of the hits, averaged over shares above the stated one by a Beta prior of
    mean twice the share; where the true share is no more than the stated one, it is at all times
    a supermartingale, so it ever reaches 1/α with probability α at most (Robbins 1970).
    """
    a, b = 1.0, max(0.5, 0.5 / share - 1.0)
    posterior = beta.logsf(share, a + hits, b + n - hits)
    prior = beta.logsf(share, a, b)
    if not math.isfinite(posterior):  # far below the share: no excess
        return -math.inf
    found = betaln(a + hits, b + n - hits) + posterior - betaln(a, b) - prior
    return float(found - hits * math.log(share) - (n - hits) * math.log1p(-share))
