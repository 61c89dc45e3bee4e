"""The plain verdict: ship a treatment, keep the control, or undecided.

The primary metric decides: once the planned size is reached, at Holm's level, or before that where
the interval that holds at all times leaves out zero. A treatment that is shown to be worse in
another metric is not shipped without a human. Arms that are not sound override everything.
"""

from dataclasses import dataclass
from typing import Literal

from serving.experiments.comparing import Compared
from serving.experiments.planning import Plan
from serving.experiments.soundness import Soundness

Kind = Literal["ship", "keep", "undecided", "invalid"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do: ``winner`` is the version to ship, None where the control stays or nothing is
    decided."""

    kind: Kind
    reason: str
    winner: int | None = None

    @property
    def text(self) -> str:
        """The verdict in plain words."""
        told = {
            "ship": f"ship treatment {self.winner}",
            "keep": "keep control",
            "undecided": "undecided",
            "invalid": "invalid",
        }
        return f"{told[self.kind]}: {self.reason}"


def verdict_of(compared: list[Compared], sound: Soundness, reached: bool, plan: Plan) -> Verdict:
    """Return what to do."""
    if sound.mismatch:
        told = ", ".join(
            f"{count:,} for {share:.1%}"
            for count, share in zip(sound.counts, sound.shares, strict=True)
        )
        return Verdict(
            "invalid",
            f"sample ratio mismatch: the arms have {told} of the entities (p = {sound.p:.2g}), so "
            "answers or labels of an arm are lost or doubled; find out where, then start anew",
        )
    if sound.uneven:
        means = ", ".join(f"{mean:.2f}" for mean in sound.per_entity)
        return Verdict(
            "invalid",
            f"entities of model {sound.uneven[0]} have another number of outcomes each than those "
            f"of the control ({means}): records of an arm are lost or doubled, or the treatment "
            "changes who is labelled",
        )
    primary = [each for each in compared if each.metric == compared[0].metric]
    shown = {each.version: each.shows(plan.alpha, reached) for each in primary}
    better = [each for each in primary if shown[each.version] > 0]
    if not better:
        return _without_winner(shown, reached, plan)
    best = max(better, key=lambda each: abs(each.adjusted.difference.mean))
    harmed = [
        each.metric.text
        for each in compared
        if each.version == best.version and each.shows(plan.alpha, reached) < 0
    ]
    if harmed:
        return Verdict(
            "undecided",
            f"model {best.version} is better in {best.metric.text} and worse in "
            f"{', '.join(harmed)}: weigh the one against the other",
        )
    found = best.adjusted
    limits = found.fixed if reached else found.sequential
    how = "at the planned size" if reached else "before the planned size, at all times"
    return Verdict(
        "ship",
        f"{best.metric.text} is {found.difference.mean:+.4g} ({limits.low:+.4g} to "
        f"{limits.high:+.4g}) {how}",
        best.version,
    )


def _without_winner(shown: dict[int, int], reached: bool, plan: Plan) -> Verdict:
    if all(each < 0 for each in shown.values()):
        told = ", ".join(map(str, shown))
        return Verdict("keep", f"{plan.metrics[0]} is worse with model {told}")
    if reached:
        return Verdict(
            "keep",
            f"the planned size is reached, and no treatment is shown to be better in "
            f"{plan.metrics[0]}; an effect of {plan.effect:.4g} would have been found with "
            f"probability {plan.power:.0%}",
        )
    return Verdict(
        "undecided",
        f"the planned size ({plan.control:,} and {plan.treatment:,} entities"
        + (f", {plan.days:.1f} days" if plan.days is not None else "")
        + ") is not reached, and the interval that holds at all times has zero in it",
    )
