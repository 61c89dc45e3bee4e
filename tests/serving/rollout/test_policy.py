"""The rules, one by one, and the promise of the simulation over few runs."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.rollout import KINDS, simulate
from serving.rollout.declared import Guardrails, RolloutPolicy
from serving.rollout.policy import Judge
from serving.rollout.trial import Trial
from streams.errors import DefinitionError
from tests.serving.rollout.made_rows import blurred, drawn, rows, side_by_side, trial_of
from training.networks.tasks import Binary, MultiClass, Regression

POLICY = RolloutPolicy(guardrails=Guardrails(psi=None), longest="3650d")
N = 4_000


def judge(policy: RolloutPolicy = POLICY) -> Judge:
    return Judge(policy, Binary())


def pairs(challenger_noise: float, live_noise: float, n: int = N) -> Trial:
    rate, labels = drawn(n)
    return trial_of(
        rows(blurred(rate, challenger_noise, 3), labels), rows(blurred(rate, live_noise, 4), labels)
    )


def canary(challenger_noise: float, share: float = 0.25, arm: float | None = None) -> Trial:
    """Return a version in canary with good pairs, whose answers side by side are as stated."""
    rate, labels = drawn(N)
    trial = trial_of(
        rows(blurred(rate, 0.1, 3), labels), rows(blurred(rate, 0.5, 4), labels), share
    )
    live = rows(blurred(rate, 0.5, 5), labels)
    answers = rows(blurred(rate, challenger_noise, 6), labels)
    side_by_side(trial, answers, live, (live.entity < (share if arm is None else arm)).tolist())
    return trial


def test_below_the_minimum_it_holds() -> None:
    found = judge().judge(pairs(0.1, 0.5, 299))
    assert (found.verdict, found.rule) == ("hold", "minimum")
    assert found.reason == "299 of 300 matched labels"


def test_a_better_version_passes_and_a_worse_one_goes_back() -> None:
    better = judge().judge(pairs(0.1, 0.7))
    assert (better.verdict, better.rule) == ("promote", "within margin")
    shown = better.evidence["pairs"]
    assert shown["high_less_margin"] < 0
    assert shown["difference"]["mean"] < 0
    assert better.evidence["margin"] == pytest.approx(0.02 * shown["live"], rel=1e-5)
    worse = judge().judge(pairs(0.7, 0.1))
    assert (worse.verdict, worse.rule) == ("roll_back", "worse")
    assert worse.evidence["pairs"]["low"] > 0


def test_the_same_version_passes_at_once_and_without_a_margin_never() -> None:
    same = pairs(0.3, 0.3)
    rate, labels = drawn(N)
    same = trial_of(rows(rate, labels), rows(rate, labels))
    assert judge().judge(same).verdict == "promote"
    strict = judge(replace(POLICY, margin=0.0)).judge(same)
    assert (strict.verdict, strict.rule) == ("hold", "undecided")


def test_what_is_worse_by_less_than_the_margin_passes_even_where_that_is_certain() -> None:
    trial = pairs(0.45, 0.1, 20_000)
    generous = judge(replace(POLICY, margin=0.1)).judge(trial)
    shown = generous.evidence["pairs"]
    assert shown["low"] > 0
    assert shown["high_less_margin"] == pytest.approx(shown["high"] - 0.1)
    assert generous.verdict == "promote"
    assert judge().judge(trial).verdict == "roll_back"


def test_a_stage_that_takes_too_long_goes_back() -> None:
    trial = pairs(0.5, 0.5, 320)
    found = judge(replace(POLICY, margin=0.0, longest="5h")).judge(trial)
    assert (found.verdict, found.rule) == ("roll_back", "longest")
    assert judge(replace(POLICY, margin=0.0, longest="6h")).judge(trial).verdict == "hold"


def _label(trial: Trial, n: int, share: float) -> None:
    """Let every event since the beginning be a minute later, and a share have got labels."""
    has = np.random.default_rng(9).random(n) < share
    has[0] = True
    offsets = np.flatnonzero(has)
    times = offsets * 60_000
    trial.labelled.bin_ms = 3_600_000
    trial.labelled.add(np.zeros(len(offsets), np.int64), offsets, times, times + 600_000)


def test_missing_labels_pause_promotions_and_time_limits_but_nothing_that_protects() -> None:
    good, bad = pairs(0.1, 0.7), pairs(0.7, 0.1)
    slow = pairs(0.5, 0.5, 350)
    for trial in (good, bad, slow):
        _label(trial, 4_000, 0.3)
    found = judge().judge(good)
    assert (found.verdict, found.rule) == ("hold", "labels")
    assert found.evidence["labelled"]["share"] == pytest.approx(0.3, abs=0.03)
    assert judge().judge(bad).verdict == "roll_back"
    assert judge(replace(POLICY, margin=0.0, longest="1h")).judge(slow).rule == "labels"
    assert judge(replace(POLICY, labelled=0.2)).judge(good).verdict == "promote"


def test_labels_that_are_only_late_pause_nothing() -> None:
    trial = pairs(0.1, 0.7)
    _label(trial, 4_000, 1.0)
    # The newest day has no labels yet: they are not older than usual.
    assert trial.labelled.share()[0] > 0.95
    assert judge().judge(trial).verdict == "promote"


def test_in_canary_the_arms_must_have_their_minimum_and_agree() -> None:
    fine = judge().judge(canary(0.4))
    assert (fine.verdict, fine.rule) == ("promote", "within margin")
    assert fine.evidence["arms"]["challenger_n"] > 300
    few = judge().judge(canary(0.4, share=0.05))
    assert (few.verdict, few.rule) == ("hold", "minimum")
    bad = judge().judge(canary(3.0))
    assert (bad.verdict, bad.rule) == ("roll_back", "worse")
    assert bad.reason.startswith("worse side by side")


def test_entities_that_are_not_where_their_share_puts_them_pause_the_stage() -> None:
    found = judge().judge(canary(0.4, share=0.25, arm=0.35))
    assert (found.verdict, found.rule) == ("hold", "sample ratio")
    assert found.evidence["entities"]["p"] < 0.001


def test_an_arm_of_too_few_entities_is_passed_on_the_pairs() -> None:
    rate, labels = drawn(60_000)
    trial = trial_of(rows(blurred(rate, 0.1), labels), rows(blurred(rate, 0.5), labels), 0.05)
    six = np.arange(60_000) % 6
    live = rows(rate, labels, six)
    side_by_side(trial, live, live, [False] * 60_000)
    assert judge().judge(trial).verdict == "promote"


def test_a_guardrail_comes_before_the_metric() -> None:
    rate, labels = drawn(N)
    off = rows(np.clip(rate * 1.4, 0, 0.99), labels)
    trial = trial_of(off, rows(np.full(N, labels.mean()), labels))
    found = judge().judge(trial)
    assert (found.verdict, found.rule) == ("roll_back", "guardrail")
    assert found.reason.startswith("calibration")
    without = replace(POLICY, guardrails=Guardrails(psi=None, calibration=None))
    assert judge(without).judge(trial).verdict == "promote"


def test_other_scores_hold_nothing_against_a_version_that_is_better() -> None:
    rate, labels = drawn(N)
    better, worse = rows(rate, labels), rows(np.full(N, labels.mean()), labels)
    strict = judge(replace(POLICY, guardrails=Guardrails(psi=0.2)))
    found = strict.judge(trial_of(better, worse))
    assert found.evidence["guardrails"]["psi"]["tripped"]
    assert found.verdict == "promote"
    # The same shift without being better.
    back = strict.judge(trial_of(rows(blurred(rate, 3.0), labels), rows(rate, labels)))
    assert (back.verdict, back.rule) == ("roll_back", "guardrail")


def test_few_entities_that_differ_much_roll_no_equal_version_back() -> None:
    """12 entities in canary and 38 live, whose base rates lie anywhere, over 60 draws."""
    back = []
    for seed in range(60):
        draw = np.random.default_rng(seed)
        base = draw.beta(0.5, 0.5, 50).clip(0.02, 0.98)
        weights = draw.pareto(1.5, 50) + 1
        in_arm = np.isin(np.arange(50), draw.permutation(50)[:12])
        who = draw.choice(50, N, p=weights / weights.sum())
        labels = (draw.random(N) < base[who]).astype(np.float64)
        told = [blurred(base[who], 0.2, 1_000 * seed + k) for k in (1, 2)]
        challenger, live = (rows(scores, labels, who) for scores in told)
        trial = trial_of(challenger.at(~in_arm[who]), live.at(~in_arm[who]), 0.25)
        for at in range(0, N, 500):
            part = slice(at, at + 500)
            mine = in_arm[who[part]]
            side_by_side(trial, challenger.at(part), live.at(part), mine.tolist())
            found = judge(RolloutPolicy(longest="3650d", margin=0.02)).judge(trial)
            if found.verdict == "roll_back":
                back.append((seed, found.reason))
                break
    assert len(back) <= 1, back


def test_the_error_budget_is_spent_once() -> None:
    found = Judge(replace(POLICY, shares=(0.01, 0.1, 0.5)), Binary())
    assert found.alpha_pairs + 3 * found.alpha_arms == pytest.approx(POLICY.alpha)


def test_the_margin_of_a_density_is_in_nats() -> None:
    rate, labels = drawn(N)
    trial = trial_of(rows(rate, labels), rows(rate, labels))
    assert Judge(POLICY, Regression()).judge(trial).evidence["margin"] == 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"margin": -0.1}, "margin"),
        ({"risk": 0.0}, "risk"),
        ({"minimum": 10}, "minimum"),
        ({"labelled": 1.5}, "labelled"),
        ({"metric": "auc"}, "metric"),
        ({"shares": (0.5, 0.1)}, "shares"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        replace(POLICY, **change)  # type: ignore[arg-type]


def test_a_metric_that_the_task_has_not_is_refused() -> None:
    with pytest.raises(DefinitionError, match="crps"):
        replace(POLICY, metric="brier").check_task(Regression())
    with pytest.raises(DefinitionError, match="brier"):
        replace(POLICY, metric="crps").check_task(MultiClass(("a", "b")))


def test_few_simulated_rollouts_end_as_they_should() -> None:
    """benchmarks/rollout.py runs 1,000 of each; docs/verdicts.md has its figures."""
    policy = RolloutPolicy(longest="3650d", shares=(0.1,))
    ends = {kind: [simulate(seed, kind, policy).end for seed in range(25)] for kind in KINDS}
    assert ends["worse"].count("live") == 0
    assert ends["worse"].count("rolled_back") >= 24
    assert ends["equal"].count("rolled_back") <= 2
    assert ends["equal"].count("live") >= 22
    assert ends["better"].count("live") == 25
