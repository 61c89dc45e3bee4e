"""The verdict on a version in a stage: promote, hold or roll back, with all the numbers.

Pure: a function of the declared policy and of what :class:`serving.rollout.trial.Trial` has summed.
docs/verdicts.md derives the rules. The error budget over all stages: ``alpha`` is spent half on the
one sequence of pairs, which runs from shadow to live, half on the arms of the canary's stages in
equal parts; ``risk`` on the one upper limit that decides whether a version passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from serving.rollout.declared import RolloutPolicy
from serving.rollout.guardrails import Reading, readings
from serving.rollout.sample_ratio import chi_squared_p, is_mismatch
from serving.rollout.statistics import (
    NOTHING,
    Estimate,
    difference,
    figure,
    lower_limit,
    to_json,
    upper_limit,
)
from serving.rollout.sums import Comparison
from serving.rollout.trial import Trial
from training.networks.tasks import Binary, MultiClass, Task

RELATIVE_MARGIN = 0.02
DENSITY_MARGIN = 0.01
TUNED_MINIMA = 4
"""The sequences are tightest at so many times the declared minimum."""

Rule = Literal[
    "minimum", "undecided", "labels", "sample ratio", "within margin", "worse", "guardrail",
    "longest",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict. ``rule`` names what decided it, ``reason`` says it to people."""

    verdict: Literal["promote", "hold", "roll_back"]
    rule: Rule
    reason: str
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a comparison shows of challenger − live: the mean, the limits that it is above and
    below, and the one that the difference less the margin is below."""

    estimate: Estimate
    low: float
    high: float
    beyond_margin: float
    live_loss: float

    @property
    def is_better(self) -> bool:
        """Whether the challenger is better, beyond chance."""
        return self.high < 0

    @property
    def is_worse(self) -> bool:
        """Whether the challenger is worse, beyond chance."""
        return self.low > 0

    @property
    def is_within_margin(self) -> bool:
        """Whether it is worse by less than the margin at most, beyond chance."""
        return self.beyond_margin < 0

    def to_json(self) -> dict[str, Any]:
        """Return it for the evidence of a verdict."""
        return {
            "difference": to_json(self.estimate),
            "low": figure(self.low),
            "high": figure(self.high),
            "high_less_margin": figure(self.beyond_margin),
            "live": figure(self.live_loss),
        }


class Judge:
    """Judges by one policy; ``task`` decides what the margin means where none is declared."""

    def __init__(self, policy: RolloutPolicy, task: Task) -> None:
        self.policy = policy
        of_density = not isinstance(task, Binary | MultiClass) and policy.metric == "log_loss"
        declared = policy.margin
        self._margin = declared if declared is not None else DENSITY_MARGIN if of_density else 0.0
        self._relative = RELATIVE_MARGIN if declared is None and not of_density else 0.0
        self.tuned = float(TUNED_MINIMA * policy.minimum)
        stages = max(1, len(policy.shares))
        self.alpha_pairs, self.alpha_arms = policy.alpha / 2, policy.alpha / 2 / stages

    def of_pairs(self, found: Comparison) -> Shown:
        """Return what the answers to the same events show."""
        live = found.live.loss()
        plain = found.difference()
        over = found.difference(1.0 + self._relative) if self._relative else plain
        return self._shown(plain, over, self.alpha_pairs, live.mean)

    def of_arms(self, found: Comparison) -> Shown:
        """Return what the answers to different entities show."""
        challenger, live = found.challenger.loss(), found.live.loss()
        plain = difference(challenger, live)
        factor = 1.0 + self._relative
        scaled = Estimate(
            live.mean * factor, live.error * factor, live.n, live.effective, live.clusters
        )
        over = difference(challenger, scaled)
        return self._shown(plain, over, self.alpha_arms, live.mean)

    def _shown(self, plain: Estimate, over: Estimate, alpha: float, live_loss: float) -> Shown:
        """Return the limits of the difference, and of the one over the relative margin."""
        risk = self.policy.risk
        low, high = lower_limit(plain, self.tuned, alpha), upper_limit(plain, self.tuned, risk)
        beyond = upper_limit(over, self.tuned, risk) - self._margin
        return Shown(plain, low, high, beyond, live_loss)

    def judge(self, trial: Trial, names: Sequence[tuple[str, str]] = ()) -> Finding:
        """Return the verdict; ``names`` are the groups' (field, value) by code."""
        pairs = self.of_pairs(trial.pairs)
        in_canary = trial.stage == "canary"
        arms = self.of_arms(trial.arms) if in_canary else None
        rails = readings(self.policy.guardrails, trial, names, self.tuned)
        share, answered = trial.labelled.share()
        evidence: dict[str, Any] = {
            "against": trial.live,
            "share": trial.share or None,
            "metric": self.policy.metric,
            "margin": figure(self._margin + self._relative * pairs.live_loss),
            "alpha": {"pairs": self.alpha_pairs, "arms": self.alpha_arms, "risk": self.policy.risk},
            "pairs": pairs.to_json(),
            "guardrails": {reading.name: reading.to_json() for reading in rails},
            "labelled": {
                "share": figure(share),
                "of": answered,
                "usual_delay_ms": trial.labelled.usual_delay_ms,
            },
            "elapsed_ms": trial.elapsed_ms,
        }
        counts = trial.entity_counts
        if arms is not None:
            shares = (trial.share, 1 - trial.share)
            evidence["arms"] = {
                **arms.to_json(),
                "challenger_n": trial.arms.challenger.n,
                "live_n": trial.arms.live.n,
            }
            evidence["entities"] = {
                "challenger": counts[0],
                "live": counts[1],
                "p": figure(chi_squared_p(counts, shares)),
            }
        verdict, rule, reason = self._rule(trial, pairs, arms, rails)
        return Finding(verdict, rule, reason, {"rule": rule, **evidence})

    def _is_starved(self, trial: Trial) -> bool:
        """Whether the arm has so few entities that its answers will not come to the minimum.

        They are a quarter of what the share promises, and the entities as many as chance explains
        (else it is a mismatch): there are too few for the share, and the pairs decide alone.
        """
        live, minimum = trial.arms.live.n, self.policy.minimum
        expected = live * trial.share / (1 - trial.share)
        return trial.arms.challenger.n < minimum <= expected / 4

    def _rule(
        self, trial: Trial, pairs: Shown, arms: Shown | None, rails: Sequence[Reading]
    ) -> tuple[Literal["promote", "hold", "roll_back"], Rule, str]:
        policy = self.policy
        # A model that is better has other scores by right, after a drift above all.
        excused = {"psi"} if pairs.is_better else set()
        tripped = [reading for reading in rails if reading.tripped and reading.name not in excused]
        if tripped:
            return "roll_back", "guardrail", "; ".join(map(str, tripped))
        n = trial.pairs.live.n
        counted = n >= policy.minimum
        # Answers side by side count from a minimum of their own, of either version.
        least = min(trial.arms.challenger.n, trial.arms.live.n)
        enough = least >= policy.minimum if arms is not None else counted
        if counted and arms is not None and self._is_starved(trial):
            enough = True
        deciding = pairs if counted or arms is None else arms
        passes = enough and deciding.is_within_margin
        if counted and pairs.is_worse and not passes:
            return "roll_back", "worse", f"worse on the same events: {_said(pairs)}"
        if arms is not None and enough and arms.is_worse:
            return "roll_back", "worse", f"worse side by side: {_said(arms)}"
        share, answered = trial.labelled.share()
        if answered >= policy.minimum and share < policy.labelled:
            why = f"{share:.1%} of {answered:,} predictions older than usual have a label"
            return "hold", "labels", f"{why}: paused"
        if arms is not None:
            counts = trial.entity_counts
            shares = (trial.share, 1 - trial.share)
            if is_mismatch(counts, shares):
                why = f"{counts[0]:,} of {sum(counts):,} entities are the canary's"
                return "hold", "sample ratio", f"{why}, and not {trial.share:.1%}: paused"
        if passes:
            return "promote", "within margin", f"no worse than the margin: {_said(deciding)}"
        if trial.elapsed_ms > policy.longest_ms:
            return "roll_back", "longest", f"no verdict within {policy.longest}"
        if not enough:
            of = f"{least if arms is not None else n:,} of {policy.minimum:,}"
            return "hold", "minimum", f"{of} matched labels"
        return "hold", "undecided", f"undecided: {_said(deciding)}"


def _said(shown: Shown) -> str:
    found = shown.estimate
    if found is NOTHING:
        return "nothing is known"
    return (
        f"{found.mean:+.5f} ± {found.error:.5f} against {shown.live_loss:.4f} "
        f"(n {found.n:,}, lower limit {shown.low:+.5f})"
    )
