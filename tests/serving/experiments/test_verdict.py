"""The plain verdict, from effects as they may come."""

import numpy as np

from serving.experiments.analysis import compare
from serving.experiments.comparing import Compared
from serving.experiments.metrics import Metric, metric_of
from serving.experiments.planning import Plan
from serving.experiments.soundness import Soundness
from serving.experiments.verdict import Verdict, verdict_of
from tests.serving.monitored import End
from training.networks.tasks import Binary

LABEL = metric_of("label", Binary(), End)
LOSS = metric_of("log_loss", Binary(), End)
SOUND = Soundness([100, 100], [0.5, 0.5], 0.9, False, [3.0, 3.0], [])


def compared(metric: Metric, shift: float, n: int = 400, version: int = 2) -> Compared:
    """An effect of exactly ``shift`` standard deviations, n entities per arm."""
    values = np.linspace(-1.7, 1.7, n)
    plan = plan_of(metric)
    effect = compare(values, values + shift, plan.aim)
    return Compared(metric, version, effect, effect, 0.0, 0.0, 0.0)


def plan_of(*metrics: Metric) -> Plan:
    texts = tuple(metric.text for metric in metrics)
    return Plan(texts, 0.2, 0.05, 0.8, 0.5, 1.0, 1, 393, 393, None, "means", "stated")


def verdict(*found: Compared, reached: bool = True, sound: Soundness = SOUND) -> Verdict:
    return verdict_of(list(found), sound, reached, plan_of(found[0].metric))


def test_what_is_better_is_shipped() -> None:
    assert verdict(compared(LABEL, 0.3)).winner == 2
    lower_is_better = verdict(compared(LOSS, -0.3))
    assert (lower_is_better.kind, lower_is_better.winner) == ("ship", 2)
    assert "at the planned size" in lower_is_better.reason


def test_what_is_worse_or_the_same_is_not() -> None:
    worse = verdict(compared(LABEL, -0.3))
    assert (worse.kind, worse.winner) == ("keep", None)
    assert "worse with model 2" in worse.reason
    same = verdict(compared(LABEL, 0.01))
    assert same.kind == "keep"
    assert "would have been found with probability 80%" in same.reason


def test_before_the_planned_size_the_interval_of_all_times_decides() -> None:
    """0.2 deviations are beyond the fixed interval of 400 entities, and within the other."""
    barely = compared(LABEL, 0.16)
    assert barely.plain.p < 0.05
    assert verdict(barely, reached=False).kind == "undecided"
    assert verdict(barely).kind == "ship"
    assert verdict(compared(LABEL, 0.5), reached=False).kind == "ship"
    assert verdict(compared(LABEL, -0.5), reached=False).kind == "keep"


def test_harm_elsewhere_is_weighed_by_a_human() -> None:
    found = verdict(compared(LABEL, 0.5), compared(LOSS, 0.5))
    assert found.kind == "undecided"
    assert "better in label and worse in log_loss" in found.reason
    assert verdict(compared(LABEL, 0.5), compared(LOSS, -0.5)).kind == "ship"


def test_of_several_the_best_is_shipped() -> None:
    three = [compared(LABEL, shift, version=v) for v, shift in ((2, 0.4), (3, 0.6), (4, -0.4))]
    assert verdict(*three).winner == 3
    assert verdict(three[2], compared(LABEL, 0.0, version=5), reached=False).kind == "undecided"


def test_arms_that_are_not_sound_override_everything() -> None:
    mismatch = Soundness([100, 60], [0.5, 0.5], 0.0008, True, [3.0, 3.0], [])
    uneven = Soundness([100, 100], [0.5, 0.5], 0.9, False, [3.0, 1.5], [2])
    for sound, why in ((mismatch, "100 for 50.0%, 60 for 50.0%"), (uneven, "(3.00, 1.50)")):
        found = verdict(compared(LABEL, 0.9), sound=sound)
        assert (found.kind, found.winner) == ("invalid", None)
        assert why in found.text
