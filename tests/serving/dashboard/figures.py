"""Figures and alerts as a monitor would write them."""

from typing import Any

from streams.wire import Alert, AlertState, Metric, Window

DAY_MS = 86_400_000


def metric(name: str, day: int, value: float, **others: Any) -> Metric:
    """Return a figure of the window of one day that ends with ``day``."""
    given = {"feature": None, "threshold": None, "n": 1_000, "model_version": 3, **others}
    window = Window((day - 1) * DAY_MS, day * DAY_MS)
    return Metric(metric=name, value=value, window=window, **given)


def alert(key: str, day: int, state: AlertState = "confirmed", **others: Any) -> Alert:
    """Return an alert of the window that ends with ``day``."""
    given = {
        "kind": "data_drift", "metric": "psi", "feature": "amount", "value": 0.4,
        "threshold": 0.25, "n": 1_000, "model_version": 3, "cause": "it moved", "offsets": {},
        "action": "none: cool-down", **others,
    }  # fmt: skip
    window = Window((day - 1) * DAY_MS, day * DAY_MS)
    return Alert(alert_id=f"{key}/{day}/{state}", window=window, key=key, state=state, **given)
