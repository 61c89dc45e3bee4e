"""Whether a share has changed: values missing, texts never seen, numbers outside the range.

Such shares are often 0 in training and small after it, where no normal approximation holds, so
they are judged exactly: given how many there are on both sides together, the window's are
hypergeometric (Fisher 1935).
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def chance_of_more(found: Floats, n: Floats, known: Floats, n_known: Floats) -> Floats:
    """Return how probable at least ``found`` of ``n`` are where the share is as in the ``known``
    of ``n_known``; all are (F,). Counts may be divided by a dispersion, and are rounded then.

    >>> chance_of_more(*(np.array([x]) for x in (3.0, 100.0, 0.0, 900.0))).round(4).tolist()
    [0.001]
    """
    from scipy.stats import hypergeom

    k, n_new, k_old, n_old = (np.floor(x + 1e-9) for x in (found, n, known, n_known))
    p = np.asarray(hypergeom.sf(k - 1, n_new + n_old, k + k_old, n_new), np.float64)
    return np.where(k > 0, np.clip(p, 0.0, 1.0), 1.0)


def chance_of_change(found: Floats, n: Floats, known: Floats, n_known: Floats) -> Floats:
    """Return the same for a change in either direction: twice the smaller side's, at most 1."""
    more = chance_of_more(found, n, known, n_known)
    fewer = chance_of_more(n - found, n, n_known - known, n_known)
    both: Floats = np.minimum(1.0, 2 * np.minimum(more, fewer))
    return both
