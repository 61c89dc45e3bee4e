"""The report of an experiment, as Markdown: the verdict first, then what it stands on."""

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from serving.experiments.analysis import Effect
from serving.experiments.findings import Findings
from serving.experiments.planning import Plan
from serving.experiments.reading import Readings
from streams.rollout import Experiment

PICTURE = "experiment.png"
ARMS = ("arm", "model", "share", "entities", "outcomes per entity")


def markdown(
    experiment: Experiment,
    plan: Plan,
    readings: Readings,
    found: Findings,
    timezone: str = "UTC",
    picture: str | None = PICTURE,
) -> str:
    """Return the report; ``picture`` is the file beside it that it shows."""
    name = experiment.started.name
    parts = [
        f"# Experiment {name}",
        f"**{_capital(found.verdict.text)}.**",
        "\n".join(_facts(experiment, plan, readings, found, timezone)),
        "## Arms",
        _table(
            (*ARMS, f"{plan.metrics[0]} (± error)"),
            _arms(experiment, found),
        ),
        "## Effects (treatment less control)",
        _table(
            ("metric", "model", "", "control", "treatment", "difference", "relative",
             f"fixed {_percent(plan)}", f"sequential {_percent(plan)}", "p (Welch)", "p (Holm)",
             "p (chi²)"),
            [row for each in found.compared for row in (
                _effect(each.metric.text, each.version, "as it is", each.plain),
                _effect("", each.version, "CUPED", each.adjusted),
            )],
        ),
        _cuped(found),
    ]  # fmt: skip
    if picture is not None and found.course:
        parts.insert(3, f"![The effect over time]({picture})")
    parts.append(
        "The unit of analysis is the entity. The fixed interval holds at the planned size alone, "
        f"the sequential one whenever one looks; both at {plan.aim.level:.2g} for each of "
        f"{plan.aim.comparisons} comparisons."
    )
    return "\n\n".join(parts) + "\n"


def _facts(
    experiment: Experiment, plan: Plan, readings: Readings, found: Findings, timezone: str
) -> list[str]:
    sound = found.soundness
    stopped = experiment.stopped
    facts = [
        f"- Asked: an effect of {plan.effect:.4g} in {plan.metrics[0]} with probability "
        f"{plan.power:.0%} at level {plan.alpha:g}: {plan.control:,} entities in the control, "
        f"{plan.treatment:,} in each treatment"
        + (f", {plan.days:.2f} days" if plan.days is not None else "")
        + ("; reached." if found.reached else "; not reached yet."),
        f"- Read: {readings.outcomes:,} outcomes of {sum(sound.counts):,} entities, "
        f"{moment(readings.first_ms, timezone)} to {moment(readings.last_ms, timezone)} "
        f"({readings.days:.2f} days of event time).",
        f"- Assignment: {sound.counts} entities for {_shares(sound.shares)}, p = {sound.p:.3g} "
        + ("**(mismatch)**" if sound.mismatch else "(as drawn)")
        + f"; {readings.mismatches:,} outcomes of another model than the entity's.",
        "- State: " + (f"ended: {stopped.reason}." if stopped else "running."),
    ]
    if readings.over_http:
        facts.append(f"- Left out: {readings.over_http:,} outcomes over HTTP.")
    if readings.unread:
        facts.append(f"- Label records that can't be read: {readings.unread:,}.")
    return facts


def _arms(experiment: Experiment, found: Findings) -> list[tuple[str, ...]]:
    started, sound = experiment.started, found.soundness
    primary = found.compared[: len(started.arms)]
    means = [primary[0].plain.control, *(each.plain.treatment for each in primary)]
    names = ["control", *(f"treatment {n}" for n in range(1, len(means)))]
    versions = [started.control, *(arm.version for arm in started.arms)]
    return [
        (
            name, str(version), f"{share:.1%}", f"{count:,}", f"{per_entity:.2f}",
            f"{mean.mean:.5g} ± {mean.error:.2g}",
        )
        for name, version, share, count, per_entity, mean in zip(
            names, versions, sound.shares, sound.counts, sound.per_entity, means, strict=True
        )
    ]  # fmt: skip


def _effect(metric: str, version: int, kind: str, effect: Effect) -> tuple[str, ...]:
    relative, chi = effect.relative, effect.chi_squared
    return (
        metric, str(version), kind, f"{effect.control.mean:.5g}", f"{effect.treatment.mean:.5g}",
        f"{effect.difference.mean:+.4g}", "" if relative is None else f"{relative:+.2%}",
        f"{effect.fixed.low:+.4g} to {effect.fixed.high:+.4g}",
        f"{effect.sequential.low:+.4g} to {effect.sequential.high:+.4g}",
        f"{effect.p:.3g}", f"{effect.holm:.3g}", "" if chi is None else f"{chi:.3g}",
    )  # fmt: skip


def _cuped(found: Findings) -> str:
    told = {
        each.metric.text: f"{each.metric.text}: {each.reduction:.0%} of the variance, "
        f"{each.known:.0%} of the entities have a past"
        for each in found.compared
    }
    return "CUPED takes out: " + "; ".join(told.values()) + "."


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shares(shares: Sequence[float]) -> str:
    return " : ".join(f"{share:.3g}" for share in shares)


def _percent(plan: Plan) -> str:
    return f"{100 * (1 - plan.aim.level):.4g} %"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def moment(time_ms: int, timezone: str) -> str:
    """Return a time for people; - where there is none."""
    if not time_ms:
        return "-"
    at = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(ZoneInfo(timezone))
    return f"{at:%Y-%m-%d %H:%M}"
