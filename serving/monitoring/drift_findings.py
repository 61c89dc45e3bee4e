"""What the comparison of a window with the reference says: figures, and which of them matter. Pure.

Of each feature its PSI, which alarms at the declared threshold; beside it the Kolmogorov–Smirnov
distance of a number, which never alarms, and the shares of missing and of new values, where there
are any, which alarm when they have risen (missing: changed) by :data:`SHARE`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from serving.alerting.finding import Finding
from serving.drift.drift import Drift
from streams.wire import AlertKind, Metric, Onset, Severity, Window

SHARE = 0.05
"""A share of missing or of new values matters when it has changed by so much."""
CRITICAL = 4.0
"""From this excess on, four times the threshold, an alert is critical."""

Counts = NDArray[np.int64]


def findings_of(
    drift: Drift,
    *,
    kind: AlertKind,
    threshold: float,
    window: Window,
    version: int,
    observed: Counts,
    onset: Callable[[], Onset | None],
    group: str | None = None,
    name: str | None = None,
) -> Iterator[Finding]:
    """Yield the figures of one feature (or of the scores), all events or a group's.

    ``observed`` (bins,) goes into the record; ``onset`` is asked only where the figure matters;
    ``name`` is what sentences call the feature, ``threshold`` that of the PSI.
    """
    called = (name or drift.feature) + (f" where {group}" if group else "")

    def metric(what: str, value: float, bound: float | None, **more: object) -> Metric:
        return Metric(
            what, drift.feature, value, bound, drift.n, window, version, group, **more  # type: ignore[arg-type]
        )  # fmt: skip

    excess = drift.psi / threshold
    matters = excess >= 1
    yield Finding(
        kind=kind,
        metric=metric(
            "psi", drift.psi, threshold, effect=drift.effect, observed=tuple(observed.tolist())
        ),
        excess=excess,
        chance=drift.chance,
        cause=_psi_cause(drift, called, threshold) if matters else None,
        severity=severity_of(excess),
        bins=drift.shifted if matters else (),
        onset=onset() if matters else None,
    )
    if drift.ks is not None:
        told = metric("ks", drift.ks, None, effect=drift.wasserstein)
        yield Finding(kind, told, None, drift.ks_chance)
    if drift.missing is not None and (drift.missing or drift.missing_reference):
        usual = drift.missing_reference or 0.0
        change = abs(drift.missing - usual) / SHARE
        bound = usual + SHARE if drift.missing >= usual else max(0.0, usual - SHARE)
        cause = f"{drift.missing:.1%} of {called} are missing, {usual:.1%} in training"
        told = metric("missing_rate", drift.missing, bound)
        yield _share(kind, told, change, drift.missing_chance, cause, drift.n, onset)
    if drift.new is not None and drift.new:
        usual = drift.new_reference or 0.0
        change = (drift.new - usual) / SHARE
        cause = f"{drift.new:.1%} of {called} are values that training did not have"
        told = metric("new_values", drift.new, usual + SHARE)
        yield _share(kind, told, change, drift.new_chance, cause, drift.n, onset)


def severity_of(excess: float) -> Severity:
    """Return how severe a difference of ``excess`` times its threshold is."""
    return "critical" if excess >= CRITICAL else "warning"


def _share(
    kind: AlertKind,
    metric: Metric,
    excess: float,
    chance: float | None,
    cause: str,
    n: int,
    onset: Callable[[], Onset | None],
) -> Finding:
    if excess < 1:
        return Finding(kind, metric, excess, chance)
    return Finding(
        kind, metric, excess, chance, f"{cause} (n={n:,})", severity_of(excess), onset=onset()
    )


def _psi_cause(drift: Drift, called: str, threshold: float) -> str:
    said = f"PSI of {called} is {drift.psi:.3g}, above {threshold:g} and "
    if drift.psi > drift.critical:
        said += f"above {drift.critical:.3g} that chance gives at n={drift.n:,}"
    else:  # the chance is that of X², which is harder on what was rare
        said += f"such as chance gives with p={drift.chance:.1g} at n={drift.n:,}"
    if not drift.shifted:
        return said
    most = drift.shifted[0]
    return f"{said}; most at {most.bin}: {most.expected:.1%} to {most.observed:.1%}"
