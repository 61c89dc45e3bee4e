"""Alerts for a log that a dashboard shows."""

from __future__ import annotations

from streams.wire import Alert, AlertState, Onset, Related, Severity, ShiftedBin, Window

DAY_MS = 86_400_000


def drift_alert(
    feature: str, end_ms: int, state: AlertState, value: float, severity: Severity = "warning"
) -> Alert:
    """Return an alert of a feature that has shifted."""
    return Alert(
        alert_id=f"{feature}/{end_ms}/{state}",
        kind="data_drift",
        metric="psi",
        feature=feature,
        value=value,
        threshold=0.25,
        n=4_000,
        window=Window(end_ms - 7 * DAY_MS, end_ms),
        model_version=3,
        cause=f"{feature} is not as in the training of model 3: PSI {value:.2f} (limit 0.25); most "
        "in its first bin, which had 10 % of the events and has 27 % now",
        offsets={},
        action="retrain" if state == "confirmed" else f"none: {state}",
        key=f"data_drift/psi/{feature}/604800000@1584144000000",
        state=state,
        severity=severity,
        p_value=2.4e-9,
        effect=0.31,
        reference="model 3",
        onset=Onset(end_ms - 3 * DAY_MS, 1, 81_234),
        impact=0.043,
        bins=(ShiftedBin("≤ 0.62", 0.10, 0.27), ShiftedBin("> 4.61", 0.10, 0.03)),
        related=(
            Related("psi", "gap_min", 0.42, 0.26, 4e-8),
            Related("psi", "station_load", 0.36, 0.22, 7e-7),
        ),
    )


def alerts(end_ms: int) -> list[Alert]:
    """Return what the monitors told: drift that is confirmed, a suspicion, and lag that is over."""
    lag = Alert(
        "lag/1", "health", "lag", "monitor", 12_400, 1_000, 12_400,
        Window(end_ms - 9 * DAY_MS - 300_000, end_ms - 9 * DAY_MS), 0,
        "monitor was 12,400 records behind for five minutes", {}, "none: told alone",
        key="health/lag/monitor", severity="warning",
    )  # fmt: skip
    loss = Alert(
        "loss/1", "performance", "log_loss", None, 0.635, 0.62, 1_800,
        Window(end_ms - DAY_MS, end_ms), 3,
        "log loss of model 3 is 0.635, 1.3 times that in its validation", {}, "none: suspected",
        key=f"performance/log_loss//86400000@{end_ms}", state="suspected", severity="info",
        p_value=0.0004, effect=0.11, reference="model 3",
    )  # fmt: skip
    return [
        lag,
        resolved(lag),
        drift_alert("distance_km", end_ms - 2 * DAY_MS, "suspected", 0.28, "info"),
        loss,
        drift_alert("distance_km", end_ms, "confirmed", 0.61, "critical"),
    ]


def resolved(alert: Alert) -> Alert:
    """Return the record that ends an alert."""
    from msgspec.structs import replace

    return replace(
        alert,
        alert_id=f"{alert.alert_id}/resolved",
        state="resolved",
        value=12.0,
        cause="lag of monitor is back at 12 records, below 1,000",
    )
