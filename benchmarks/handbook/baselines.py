"""The handbook's own baselines by scikit-learn on its own 15 features, to prove the protocol.

The windows end with the payment itself and slide by the second; those of a terminal end a week
before it, when the verdicts are known. What was seen of a terminal then counts with its verdicts.
"""

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.handbook.protocol import (
    DAY_MS,
    Floats,
    Payments,
    Quality,
    Weeks,
    measured,
    test_rows,
    training_rows,
)

DAYS = (1, 7, 30)
DELAY_MS = 7 * DAY_MS
MOST_NIGHTLY_HOUR = 6

PUBLISHED = {
    "logistic_regression": Quality(0.871, 0.606, 0.291),
    "random_forest": Quality(0.867, 0.658, 0.287),
    "xgboost": Quality(0.862, 0.639, 0.273),
}
"""What the handbook says of the published weeks."""


def features(payments: Payments) -> Floats:
    """Return the 15 features, shape (n, 15)."""
    hours = payments.times_ms // 3_600_000 % 24
    weekdays = (payments.days + 3) % 7  # the epoch began on a Thursday; Monday is 0
    columns = [payments.amounts, weekdays >= 5, hours <= MOST_NIGHTLY_HOUR]
    of_customers = _Windows(payments.customers, payments.times_ms)
    of_terminals = _Windows(payments.terminals, payments.times_ms)
    for days in DAYS:
        count, amount = of_customers.sums(days * DAY_MS, 0, payments.amounts)
        columns += [count, amount / count]
    for days in DAYS:
        count, frauds = of_terminals.sums(days * DAY_MS, DELAY_MS, payments.frauds)
        columns += [count, np.divide(frauds, count, out=np.zeros(len(count)), where=count > 0)]
    return np.column_stack(columns).astype(np.float64)


class _Windows:
    """Sliding windows (t − delay − length, t − delay] over the payments of one entity each."""

    def __init__(self, entities: NDArray[np.int64], times_ms: NDArray[np.int64]) -> None:
        self._order = np.lexsort((times_ms, entities))
        # One axis on which the entities lie one behind the other, further apart than any window.
        self._span = int(np.ptp(times_ms)) + 100 * DAY_MS
        _, numbers = np.unique(entities, return_inverse=True)
        self._axis = numbers * self._span + (times_ms - times_ms.min())
        self._sorted = self._axis[self._order]

    def sums(
        self, length_ms: int, delay_ms: int, values: NDArray[np.float64] | NDArray[np.int64]
    ) -> tuple[Floats, Floats]:
        """Return the windows' (numbers of payments, sums of ``values``), (n,) each."""
        totals = np.concatenate([[0.0], np.cumsum(values[self._order].astype(np.float64))])
        end = np.searchsorted(self._sorted, self._axis - delay_ms, "right")
        start = np.searchsorted(self._sorted, self._axis - delay_ms - length_ms, "right")
        return (end - start).astype(np.float64), totals[end] - totals[start]


def run(payments: Payments, weeks: Weeks) -> dict[str, Quality]:
    """Train and test the logistic regression and the random forest of the handbook."""
    linear, scaling = import_module("sklearn.linear_model"), import_module("sklearn.preprocessing")
    inputs = features(payments)
    scaler = scaling.StandardScaler().fit(inputs[training_rows(payments, weeks)])
    scaled = scaler.transform(inputs)
    logistic = linear.LogisticRegression(random_state=0)
    return {
        "logistic_regression": _quality(logistic, payments, scaled, weeks),
        "random_forest": forest(payments, scaled, weeks),
    }


def forest(payments: Payments, inputs: Floats, weeks: Weeks) -> Quality:
    """Train and test the random forest with the handbook's settings on any inputs (n, F)."""
    ensemble = import_module("sklearn.ensemble")
    model = ensemble.RandomForestClassifier(random_state=0, n_jobs=2)
    return _quality(model, payments, inputs, weeks)


def _quality(model: Any, payments: Payments, inputs: Floats, weeks: Weeks) -> Quality:
    train, test = training_rows(payments, weeks), test_rows(payments, weeks)
    model.fit(inputs[train], payments.frauds[train])
    return measured(payments, test, model.predict_proba(inputs[test])[:, 1])
