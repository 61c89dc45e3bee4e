"""When a retraining is due. Pure; all times are event time, milliseconds since the epoch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from serving.alerting.alarms import Raised
from serving.alerting.declared import Policy
from serving.alerting.finding import Finding
from serving.alerting.standing import SEVERITIES
from streams.durations import seconds
from training.spec import Training


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows at a step's end.

    ``reason`` is that of the retraining, or None for none; ``action`` is what alerts raised now
    say of it: ``"retrain"`` or ``"none: <why>"``.
    """

    reason: str | None
    action: str


def decide(
    training: Training,
    *,
    end_ms: int,
    first_step_ms: int,
    last_cutoff_ms: int | None,
    model_exists: bool,
    alert_cause: str | None,
) -> Decision:
    """Return what to do at the step that ends at ``end_ms``.

    Args:
        training: what the pipeline file says.
        end_ms: the step's end, the cut-off of a training that begins now.
        first_step_ms: start of the step that holds the first event.
        last_cutoff_ms: cut-off of the last training that was asked for, by anyone.
        model_exists: whether a trained version is live.
        alert_cause: why an alert asks for a retraining, or None where none does.
    """
    if last_cutoff_ms is None:
        if end_ms >= first_step_ms + seconds(training.first_after) * 1000:
            return Decision("schedule", "retrain")
        return Decision(None, "none: no model has been trained yet")
    if training.every is not None and end_ms >= last_cutoff_ms + seconds(training.every) * 1000:
        return Decision("schedule", "retrain")
    if not model_exists:
        return Decision(None, "none: no model is live yet")
    rested_ms = last_cutoff_ms + seconds(training.cooldown) * 1000
    if end_ms < rested_ms:
        return Decision(None, f"none: cool-down until {iso_time(rested_ms)}")
    if alert_cause is not None:
        return Decision(f"alert: {alert_cause}", "retrain")
    return Decision(None, "none: no alert and nothing scheduled")


def retraining_cause(policies: Sequence[Policy], raised: Raised) -> str | None:
    """Return why alerts ask for a retraining, where a policy has it so; None where none does.

    What was told of at this closing comes first, then what stands and is still out of bounds.
    """

    def asking(findings: Iterable[Finding]) -> list[str]:
        covered = (f for f in findings if any(_covers(p, f) for p in policies))
        return [finding.cause for finding in covered if finding.cause is not None]

    told = (each.lead for each in raised.told if each.state == "confirmed")
    causes = asking(told) or asking(raised.standing)
    if not causes:
        return None
    more = f" (and {len(causes) - 1} more)" if len(causes) > 1 else ""
    return causes[0] + more


def _covers(policy: Policy, finding: Finding) -> bool:
    severe = SEVERITIES.index(finding.severity) >= SEVERITIES.index(policy.severity)
    return policy.do == "retrain" and finding.kind in policy.kinds and severe


def iso_time(time_ms: int) -> str:
    """Return the time as ISO 8601 in UTC, to the second.

    >>> iso_time(1_577_836_800_000)
    '2020-01-01T00:00:00Z'
    """
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
