"""What a pipeline file says of its alerts: how sure, how often, and what is done."""

import math
from dataclasses import dataclass
from typing import Literal

from streams.errors import DefinitionError
from streams.wire import AlertKind, Severity

Action = Literal["retrain", "hold rollout", "roll back"]


@dataclass(frozen=True)
class Policy:
    """What is done when an alert is confirmed.

    Args:
        do: ``"retrain"`` asks the trainer (the cool-down of ``Training`` holds); ``"hold rollout"``
            lets no version go on while the alert stands; ``"roll back"`` takes the version live
            back to the one before.
        kinds: of which alerts.
        severity: at least this severe.
    """

    do: Action
    kinds: tuple[AlertKind, ...] = ("data_drift", "performance", "concept_drift")
    severity: Severity = "warning"


@dataclass(frozen=True)
class Webhook:
    """Alerts are sent as JSON by POST, each at least once, in order.

    Args:
        url: where to; ``http`` or ``https``.
        token: name of the environment variable with the bearer token, or None for none.
        severity: at least this severe.
    """

    url: str
    token: str | None = None
    severity: Severity = "warning"


@dataclass(frozen=True)
class Alertmanager:
    """Alerts are sent to Prometheus' Alertmanager (its API v2), which groups and silences them.

    Args:
        url: its address, such as ``http://127.0.0.1:9093``.
        severity: at least this severe.
    """

    url: str
    severity: Severity = "warning"


@dataclass(frozen=True)
class Alerting:
    """How alerts are raised and what follows.

    Args:
        false_alarms_per_week: how many alerts a week may be confirmed, all monitors together, where
            nothing has changed. Every test's level follows from it.
        confirm: (m, n): a finding is confirmed when m of the last n windows show it, and suspected
            before.
        resolve: a confirmed finding is resolved when its figure is below this share of the
            threshold.
        policies: what is done about confirmed alerts.
        notify: who is told.
        dashboard: the address under which those who are told reach the pipeline's page, such as
            ``https://kappa.example.org``: each alert has a link to it.
    """

    false_alarms_per_week: float = 0.1
    confirm: tuple[int, int] = (2, 3)
    resolve: float = 0.8
    policies: tuple[Policy, ...] = (Policy("retrain"),)
    notify: tuple[Webhook | Alertmanager, ...] = ()
    dashboard: str | None = None

    def __post_init__(self) -> None:
        """Check the ranges; raises DefinitionError."""
        rate, (m, n) = self.false_alarms_per_week, self.confirm
        if not (math.isfinite(rate) and rate > 0):
            raise DefinitionError(f"false_alarms_per_week={rate}: a number above 0, such as 0.1")
        if not 1 <= m <= n:
            raise DefinitionError(
                f"confirm={self.confirm}: (m, n) with 1 <= m <= n, such as (2, 3)"
            )
        if not 0 < self.resolve <= 1:
            raise DefinitionError(f"resolve={self.resolve}: a share in (0, 1], such as 0.8")
        if self.dashboard is not None and not self.dashboard.startswith(("http://", "https://")):
            raise DefinitionError(
                f"dashboard={self.dashboard!r}: an address, such as https://kappa.example.org"
            )
