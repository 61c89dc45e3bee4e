"""What a confirmed alert does to the versions: the policy "roll back"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import structlog

from serving.alerting.declared import Policy
from serving.alerting.standing import Standing, concerns
from serving.rollout.operating import rolled_back
from streams.changes import Changes
from streams.control import ControlFollower, decode_model_events
from streams.errors import ConfigurationError
from streams.rollout import Rollout
from streams.wire import Alert, ModelEvent, StageChanged

BY = "alert"

_LOG = structlog.get_logger(role="notify")


class RollBacks:
    """Takes the live version back where an alert about it is confirmed; appends to ``topic``.

    One alert does so once while it stands: what a change by it says of its evidence is read from
    the control log, so a restart changes nothing, nor does it when an operator puts the version
    live again.

    Raises:
        BrokerError: the control log can't be read or written.
    """

    def __init__(self, bootstrap: str, topic: str, policies: Iterable[Policy]) -> None:
        self._policies = tuple(p for p in policies if p.do == "roll back")
        self._follower = ControlFollower(bootstrap, topic)
        self._changes = Changes(bootstrap, topic)
        self._done: dict[str, int] = {}

    def act(self, standing: Standing) -> StageChanged | None:
        """Roll back what the alert is about; None where there is nothing to do, as the log says."""
        alert = standing.alert
        if not any(concerns(policy, alert) for policy in self._policies):
            return None
        self._note(decode_model_events(self._follower.catch_up()))
        if self._done.get(alert.key, -1) >= standing.since_offset:
            return None
        why_not = ""

        def decision(state: Rollout) -> StageChanged | None:
            nonlocal why_not
            change, why_not = roll_back(state, standing)
            return change

        try:
            made = self._changes.decide(decision)
        except ConfigurationError as error:
            made, why_not = None, str(error)
        if isinstance(made, StageChanged):
            self._done[alert.key] = standing.since_offset
            _LOG.warning(
                "rolled back", version=made.version, instead=made.instead, alert=alert.alert_id,
                cause=alert.cause,
            )  # fmt: skip
            return made
        _LOG.warning("not rolled back", alert=alert.alert_id, cause=alert.cause, why=why_not)
        return None

    def close(self) -> None:
        """Close the connections."""
        self._follower.close()
        self._changes.close()

    def _note(self, events: Iterable[ModelEvent]) -> None:
        for event in events:
            evidence = event.evidence if isinstance(event, StageChanged) else None
            if isinstance(event, StageChanged) and event.by == BY and evidence:
                self._done[evidence["alert"]["key"]] = evidence["alert"]["since_offset"]


def roll_back(state: Rollout, standing: Standing) -> tuple[StageChanged | None, str]:
    """Return the change that an alert asks for in a state, or None and why there is none.

    Only the version that is live is taken back, and only where one was live before it: the prior
    is nobody's remedy.
    """
    alert = standing.alert
    version = alert.model_version
    registered = state.versions.get(version)
    if registered is None or state.routing(registered.definition).live != version:
        return None, f"model {version}, which the alert is about, is not live"
    definition = registered.definition
    if definition in state.pinned:
        return None, f"model {version} is pinned on definition v{definition}"
    before = [v for v in state.before.get(definition, ()) if v != version]
    if not before:
        return None, f"no version was live before model {version}"
    change = rolled_back(state, version, None, f"alert: {alert.cause}")
    figures = {**evidence_of(alert), "since_offset": standing.since_offset}
    return msgspec.structs.replace(change, by=BY, evidence={"alert": figures}), ""


def evidence_of(alert: Alert) -> dict[str, Any]:
    """Return an alert's figures, for a change or a verdict that it is the reason of."""
    figures = {
        "value": alert.value, "threshold": alert.threshold, "p_value": alert.p_value,
        "effect": alert.effect, "impact": alert.impact, "n": alert.n,
    }  # fmt: skip
    return {
        "alert_id": alert.alert_id,
        "key": alert.key,
        "kind": alert.kind,
        "metric": alert.metric,
        "feature": alert.feature,
        "model": alert.model_version,
        "window": msgspec.to_builtins(alert.window),
        **{name: value for name, value in figures.items() if value is not None},
    }
