"""Figures of 30 days for a log that a dashboard shows: drift, performance, fairness."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from features.records import FeatureRows
from streams.wire import Metric, Window
from training.reference import Reference

DAY_MS = 86_400_000
DAYS = 30
ROWS = 4_000
DRIFTING = {"distance_km": 1.0, "gap_min": 0.8, "station_load": -0.7}
"""How far a feature has shifted on the last day, per bin, in log odds of the bins."""
SHIFT_DAYS = 4
LIVE = {1: (0, 11), 2: (10, 21), 3: (20, DAYS)}
"""Version → the days on which it has labels."""


def reference_of(numbers: Sequence[str]) -> Reference:
    """Return what the models saw in training."""
    draw = np.random.default_rng(11)
    rows = FeatureRows(
        partition=0,
        event_ids=[f"r{i}" for i in range(ROWS)],
        entities=[f"rider-{i % 37:02d}" for i in range(ROWS)],
        event_times_ms=np.arange(ROWS, dtype=np.int64) * 600_000,
        source_offsets=np.arange(ROWS, dtype=np.int64),
        numeric=draw.gamma(2.0, [[1.2, 6.0, 7.0, 0.2, 20.0][: len(numbers)]], (ROWS, len(numbers))),
        categories=[["bike" if i % 3 else "e-bike" for i in range(ROWS)]],
        groups=[["yes" if i % 4 else "no" for i in range(ROWS)]],
    )
    return Reference.from_columns([rows], list(numbers), ["kind"])


def drift(reference: Reference, numbers: Sequence[str], end_ms: int) -> list[Metric]:
    """Return PSI and KS of all features and of the scores, in daily windows of a week."""
    draw = np.random.default_rng(5)
    found = []
    for day in range(DAYS):
        end = end_ms - (DAYS - 1 - day) * DAY_MS
        window = Window(end - 7 * DAY_MS, end)
        for name in [*numbers, "kind"]:
            expected = np.asarray(reference.expected[name], dtype=float)
            tilt = DRIFTING.get(name, 0.0) * max(0, day - DAYS + 1 + SHIFT_DAYS) / SHIFT_DAYS
            weight = expected * np.exp(-tilt * np.arange(len(expected)) / 3)
            counts = draw.multinomial(ROWS, weight / weight.sum())
            found += _of_counts(name, window, expected, counts)
        value = 0.03 + 0.02 * float(draw.random()) + (0.05 * max(0, day - DAYS + 3))
        found.append(Metric("psi", None, value, 0.25, ROWS, window, 3, p_value=0.4, effect=0.05))
    return found


def _of_counts(name: str, window: Window, expected: np.ndarray, counts: np.ndarray) -> list[Metric]:
    e, o = ((c + 0.5) / (c + 0.5).sum() for c in (expected, counts.astype(float)))
    psi, ks = float(((o - e) * np.log(o / e)).sum()), float(np.abs(np.cumsum(o - e)).max())
    p = float(np.exp(-ROWS * psi / 20))
    told = tuple(int(n) for n in counts)
    return [
        Metric("psi", name, psi, 0.25, ROWS, window, 3, p_value=p, effect=ks, observed=told),
        Metric("ks", name, ks, None, ROWS, window, 3, p_value=p, effect=ks),
    ]


def performance(end_ms: int) -> list[Metric]:
    """Return figures of each version by event time, with intervals."""
    draw = np.random.default_rng(6)
    found = []
    for version, (first, last) in LIVE.items():
        for day in range(first, last):
            window = Window(end_ms - (DAYS - day) * DAY_MS, end_ms - (DAYS - 1 - day) * DAY_MS)
            worse = 0.03 * max(0, day - DAYS + SHIFT_DAYS) if version == 3 else 0.0
            wave = 0.012 * math.sin(day / 2.3) + float(draw.normal(0, 0.005)) + worse
            loss, limit = 0.63 - 0.035 * version + wave, 0.62 if version == 3 else None
            auc = 0.68 + 0.03 * version - wave
            gap = 0.012 + 0.3 * worse + abs(float(draw.normal(0, 0.004)))
            for name, value, half, threshold in (
                ("log_loss", loss, 0.022, limit),
                ("auc", auc, 0.018, None),
                ("calibration_gap", gap, 0.012, 0.05 if version == 3 else None),
            ):
                found.append(
                    Metric(name, None, value, threshold, 1_800, window, version,
                           low=value - half, high=value + half, restated=1)
                )  # fmt: skip
            for name, value in (
                ("label_delay_median_s", 2_300 + 400 * wave),
                ("label_delay_p90_s", 7_900 + 9_000 * wave),
                ("label_overdue_share", 0.004 + worse / 10),
            ):
                found.append(Metric(name, None, value, None, 1_800, window, version))
    return found


def fairness(end_ms: int) -> list[Metric]:
    """Return the groups' figures of the newest window."""
    window = Window(end_ms - 30 * DAY_MS, end_ms)
    told = [
        ("selection_rate", "member=yes", 0.42, 0.018, None, 5_400),
        ("selection_rate", "member=no", 0.31, 0.032, None, 1_800),
        ("selection_ratio", "member=no", 0.74, 0.07, 0.8, 1_800),
        ("true_positive_rate", "member=yes", 0.71, 0.02, None, 2_300),
        ("true_positive_rate", "member=no", 0.66, 0.05, None, 700),
        ("false_positive_rate", "member=yes", 0.17, 0.015, None, 3_100),
        ("false_positive_rate", "member=no", 0.15, 0.025, None, 1_100),
        ("group_calibration_gap", "member=yes", 0.012, 0.012, None, 5_400),
        ("group_calibration_gap", "member=no", 0.027, 0.021, None, 1_800),
        ("true_positive_rate_difference", "member", 0.05, 0.05, 0.1, 7_200),
    ]
    return [
        Metric(name, None, value, limit, n, window, 3, group=group,
               low=value - half, high=value + half)
        for name, group, value, half, limit, n in told
    ]  # fmt: skip
