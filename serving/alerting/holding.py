"""What a confirmed alert does to versions on their way: the policy "hold rollout"."""

from __future__ import annotations

from collections.abc import Iterable

from serving.alerting.declared import Policy
from serving.alerting.standing import Alerts, alert_in
from streams.control import ControlFollower
from streams.wire import Alert


class Holds:
    """Follows the alerts ``topic``, if one of the policies holds the rollout.

    Raises:
        BrokerError: the topic can't be read.
    """

    def __init__(self, bootstrap: str, topic: str, policies: Iterable[Policy]) -> None:
        self._policies = tuple(p for p in policies if p.do == "hold rollout")
        self._follower = ControlFollower(bootstrap, topic) if self._policies else None
        self._alerts, self._read = Alerts(), 0

    def now(self) -> Alert | None:
        """Return the oldest alert that holds the rollout, by all that the topic holds now."""
        if self._follower is None:
            return None
        for alert in map(alert_in, self._follower.catch_up()):
            if alert is not None:
                self._alerts.take(alert, self._read)
            self._read += 1
        holding = self._alerts.of(self._policies)
        return holding[0].alert if holding else None

    def close(self) -> None:
        """Close the connection."""
        if self._follower is not None:
            self._follower.close()
