"""From a finding to the record that says or does it: pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from serving.alerting.acting import evidence_of
from serving.rollout.declared import RolloutPolicy
from serving.rollout.policy import Finding
from serving.rollout.trial import Trial
from streams.rollout import Rollout
from streams.wire import Alert, Judged, Positions, StageChanged

BY = "policy"


def decided(
    finding: Finding, trial: Trial, rollout: Rollout, policy: RolloutPolicy, owner: str,
    positions: Positions, held_by: Alert | None = None,
) -> StageChanged | Judged | None:  # fmt: skip
    """Return the record to append, a change without its number; None where the log says it already.

    A version that the operator has put where it is stays the operator's, and in a dry run all are:
    what would be done is said, in :class:`streams.wire.Judged`, and not done.

    Args:
        finding: what was found of the version.
        trial: what it was found from.
        rollout: what the control log says.
        policy: the declared policy.
        owner: who put the version into its stage.
        positions: the next offsets of the outcomes' topic: what was read by then.
        held_by: an alert that stands and lets no version go on.
    """
    only_says = policy.dry_run or owner == "operator"
    if not only_says:
        finding = _as_possible(finding, trial, rollout, held_by)
    evidence = {**finding.evidence, "outcomes": positions}
    if finding.verdict != "hold" and not only_says:
        return _change(finding, evidence, trial, rollout, policy)
    last = rollout.judged.get((trial.version, trial.stage))
    if last is not None and _said(last) == (finding.verdict, *_place(evidence), only_says):
        return None
    return Judged(
        trial.version, trial.stage, finding.verdict, finding.reason, evidence, dry_run=only_says
    )


def _change(
    finding: Finding, evidence: dict[str, Any], trial: Trial, rollout: Rollout,
    policy: RolloutPolicy,
) -> StageChanged:  # fmt: skip
    change = StageChanged(trial.version, "rolled_back", finding.reason, by=BY, evidence=evidence)
    if finding.verdict == "roll_back":
        return change
    share = next((share for share in policy.shares if share > trial.share), None)
    if share is None:
        return msgspec.structs.replace(change, stage="live")
    salt = rollout.routing(trial.definition).salt or f"canary-{trial.version}"
    return msgspec.structs.replace(change, stage="canary", share=share, salt=salt)


def _as_possible(
    finding: Finding, trial: Trial, rollout: Rollout, held_by: Alert | None
) -> Finding:
    """Return ``finding``, or hold where something else stands in the way of a promotion."""
    if finding.verdict != "promote":
        return finding
    definition = trial.definition
    routing = rollout.routing(definition)
    others = [arm.version for arm in routing.arms if arm.version != trial.version]
    running = rollout.experiment(definition)
    more: dict[str, Any] = {}
    if held_by is not None:
        rule, why, more = "alert", f"alert: {held_by.cause}", {"alert": evidence_of(held_by)}
    elif definition in rollout.pinned:
        rule, why = "pinned", f"model {rollout.pinned[definition]} is pinned"
    elif running is not None:
        rule, why = "experiment", f"the experiment {running.started.name} runs"
    elif others:
        rule, why = "occupied", f"model {others[0]} is in canary"
    else:
        return finding
    reason = f"{why}: waits; {finding.reason}"
    return replace(
        finding, verdict="hold", reason=reason, evidence={**finding.evidence, "rule": rule, **more}
    )


def _said(judged: Judged) -> tuple[Any, ...]:
    return (judged.verdict, *_place(judged.evidence), judged.dry_run)


def _place(evidence: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(evidence.get(name) for name in ("rule", "share", "against", "alert"))
