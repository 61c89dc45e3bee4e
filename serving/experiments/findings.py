"""What an experiment shows: every metric of every treatment, whether the arms are sound, and the
plain verdict."""

from dataclasses import dataclass, replace
from typing import Any

from serving.experiments.analysis import holm
from serving.experiments.comparing import (
    Compared,
    Moment,
    adjusted_values,
    compare_arms,
    course_of,
    spread_within,
)
from serving.experiments.metrics import Metric
from serving.experiments.planning import Plan
from serving.experiments.reading import Readings
from serving.experiments.sizing import Aim
from serving.experiments.soundness import Soundness, soundness_of
from serving.experiments.verdict import Verdict, verdict_of


@dataclass(frozen=True, slots=True)
class Findings:
    """All of it."""

    compared: list[Compared]
    course: list[Moment]
    soundness: Soundness
    reached: bool
    verdict: Verdict


def findings_of(readings: Readings, metrics: list[Metric], plan: Plan) -> Findings:
    """Return what the outcomes say about the plan's question."""
    n, arms, routing = len(readings.entities), readings.arms, readings.routing
    compared, primary = [], 0.0
    for place, metric in enumerate(metrics):
        values = adjusted_values(
            metric.unit, readings.during[place].of(n), readings.before[place].of(n), arms,
            len(routing.arms),
        )  # fmt: skip
        spread = spread_within(values[0])
        primary = primary if place else spread
        compared += compare_arms(metric, routing, *values, _scaled(plan.aim, spread, primary))
    steps = [holm([getattr(c, which).p for c in compared]) for which in ("plain", "adjusted")]
    compared = [
        replace(
            each,
            plain=replace(each.plain, holm=plain),
            adjusted=replace(each.adjusted, holm=adjusted),
        )
        for each, plain, adjusted in zip(compared, *steps, strict=True)
    ]
    sound = soundness_of(readings)
    is_reached = _reached(compared, plan, readings.days)
    return Findings(
        compared,
        course_of(readings, metrics[0], plan.aim),
        sound,
        is_reached,
        verdict_of(compared, sound, is_reached, plan),
    )


def _scaled(aim: Aim, spread: float, primary: float) -> Aim:
    """Return the aim in units of another metric than the primary one: as many deviations between
    entities, so that its intervals too are tightest at the planned size."""
    if not spread or not primary:
        return aim
    return replace(aim, effect=aim.effect * spread / primary)


def _reached(compared: list[Compared], plan: Plan, days: float) -> bool:
    """Whether the primary metric has the entities, and the time, that were planned."""
    primary = [each for each in compared if each.metric == compared[0].metric]
    return all(
        each.plain.control.n + each.plain.treatment.n >= plan.control + plan.treatment
        for each in primary  # together: which arm an entity comes into is drawn
    ) and (plan.days is None or days >= plan.days)


def to_json(found: Findings) -> dict[str, Any]:
    """Return the findings as plain JSON values, for a script and as the evidence of a change."""
    return {
        "verdict": {
            "kind": found.verdict.kind,
            "winner": found.verdict.winner,
            "reason": found.verdict.reason,
        },
        "reached": found.reached,
        "sample_ratio": {
            "entities": found.soundness.counts,
            "shares": found.soundness.shares,
            "p": found.soundness.p,
            "mismatch": found.soundness.mismatch,
            "outcomes_per_entity": found.soundness.per_entity,
            "uneven": found.soundness.uneven,
        },
        "effects": [
            {
                "metric": each.metric.text,
                "version": each.version,
                "plain": each.plain.to_json(),
                "cuped": {
                    **each.adjusted.to_json(),
                    "theta": each.theta,
                    "variance_reduction": each.reduction,
                    "known_before": each.known,
                },
            }
            for each in found.compared
        ],
    }
