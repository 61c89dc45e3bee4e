"""How much of the past the dashboard keeps, and which window belongs where."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from streams.wire import SKEW_METRICS, Metric

KEPT_MS = 30 * 86_400_000
"""Windows that ended within so much event time before the newest one are kept, ..."""

AT_LEAST, AT_MOST = 60, 1_000
"""... so many of the newest at least, and no more than so many."""

FAIRNESS_METRICS = frozenset({
    "selection_rate", "true_positive_rate", "false_positive_rate", "group_calibration_gap",
    "selection_ratio", "true_positive_rate_difference", "false_positive_rate_difference",
    "calibration_gap_difference", "mean_error_in_spreads", "mean_error_difference",
})  # fmt: skip

DISTRIBUTION_METRICS = frozenset({
    "psi", "ks", "chi_squared", "wasserstein", "missing_rate", "range", "out_of_range",
    "new_category", "new_categories", "domain_auc", "domain_classifier",
})  # fmt: skip
"""Metrics of distributions that need no feature: without one they are of the scores."""

PREDICTION = "prediction"
"""The row of the scores in the heat map."""

ESTIMATED = "estimated"
"""What the name of a figure made without labels holds."""

Key = tuple[int, int, int]
"""A window: (end_ms, start_ms, model_version), in the order of being shown."""


def section_of(metric: Metric) -> str | None:
    """Return the section that shows a figure; None where none does."""
    if metric.metric in SKEW_METRICS:
        return None
    if metric.metric in FAIRNESS_METRICS:
        return "fairness"
    if metric.feature is not None or metric.metric in DISTRIBUTION_METRICS:
        return "drift"
    return "performance"


def key_of(metric: Metric) -> Key:
    """Return the window of a figure."""
    return metric.window.end_ms, metric.window.start_ms, metric.model_version


def too_old(keys: Iterable[Key]) -> list[Key]:
    """Return the windows that are not kept any more.

    >>> day = 86_400_000
    >>> len(too_old([(end * day, 0, 1) for end in range(100)]))
    40
    """
    ordered = sorted(keys)
    if len(ordered) <= AT_LEAST:
        return []
    oldest = ordered[-1][0] - KEPT_MS
    within = sum(end > oldest for end, _, _ in ordered)
    return ordered[: len(ordered) - min(AT_MOST, max(AT_LEAST, within))]


def digits(values: NDArray[np.float64]) -> list[float | None]:
    """Return figures with five significant digits, for a small document; NaN becomes None."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (4 - np.floor(np.log10(np.abs(values))))
        rounded = np.where(np.isfinite(scale), np.round(values * scale) / scale, values)
    return [
        value if known else None
        for value, known in zip(rounded.tolist(), np.isfinite(rounded).tolist(), strict=True)
    ]
