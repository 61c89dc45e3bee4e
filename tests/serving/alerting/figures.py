"""Figures of features, as a watch would find them in daily windows of a week."""

from serving.alerting.finding import Finding
from streams.wire import AlertKind, Metric, Window

DAY = 86_400_000
WEEK = 7 * DAY


def figure(
    feature: str,
    excess: float | None = 2.0,
    chance: float | None = 1e-9,
    day: int = 7,
    kind: AlertKind = "data_drift",
    impact: float | None = None,
) -> Finding:
    """Return the figure of the window that ends with ``day``."""
    value = 0.25 * (excess or 0)
    metric = Metric("psi", feature, value, 0.25, 1_000, Window((day - 7) * DAY, day * DAY), 1)
    return Finding(kind, metric, excess, chance, f"PSI of {feature} is {value:g}", impact=impact)
