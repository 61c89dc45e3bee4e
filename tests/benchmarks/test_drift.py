"""What the drift benchmark counts, and the streams it counts on."""

import numpy as np
import pytest

from benchmarks.detectors.baselines import Every, Stepd
from benchmarks.detectors.naive_bayes import NaiveBayes
from benchmarks.detectors.protocol import (
    Score,
    alarms_with_learner,
    all_alarms,
    beaten_by,
    front,
    mean_score,
    score,
)
from benchmarks.detectors.tasks import (
    DRIFTS,
    EVERY,
    LENGTH,
    SPARE,
    TASKS,
    WIDTH,
    Instances,
    concepts_of,
    stream,
)


def _numbered() -> list[Instances]:
    """Five concepts whose instances say which one they are."""
    n, none = EVERY + SPARE, np.zeros(1, np.int64)
    return [Instances(np.full((n, 1), float(i)), np.full(n, i % 2), none) for i in range(5)]


def test_a_sudden_drift_is_after_every_twenty_thousand() -> None:
    concept = stream(_numbered(), 0, gradual=False).inputs[:, 0]
    assert concept.tolist() == np.repeat(np.arange(5.0), EVERY).tolist()


def test_a_gradual_drift_is_around_there_and_nowhere_else() -> None:
    concept = stream(_numbered(), 0, gradual=True).inputs[:, 0]
    for i in range(5):
        begin, end = i * EVERY, (i + 1) * EVERY
        assert (concept[begin + 3 * WIDTH : end - 3 * WIDTH] == i).all()
    for i, at in enumerate(DRIFTS):
        around = concept[at - WIDTH // 4 : at + WIDTH // 4]
        assert set(around.tolist()) == {i, i + 1}
        assert np.mean(around == i + 1) == pytest.approx(0.5, abs=0.1)
        before = concept[at - WIDTH : at - WIDTH // 2] == i + 1
        assert 0.02 < np.mean(before) < 0.12  # 1 / (1 + e³) on the average of e² to e⁴
    assert (concept[: EVERY // 2] == 0).all()
    assert (concept[-EVERY // 2 :] == 4).all()


@pytest.mark.parametrize("task", ["STAGGER", "RandomRBF"])
def test_concepts_differ_and_are_the_same_in_every_run(task: str) -> None:
    one, again = concepts_of(task, 3, 300), concepts_of(task, 3, 300)
    assert len(one) == LENGTH // EVERY
    for a, b in zip(one, again, strict=True):
        assert (a.inputs == b.inputs).all()
        assert (a.classes == b.classes).all()
    codes = TASKS[task][1]
    assert (one[0].sizes > 0).sum() == len(codes)
    if task == "STAGGER":  # one seed for all: the same inputs, another rule
        assert (one[0].inputs == one[1].inputs).all()
        assert (one[0].classes != one[1].classes).mean() > 0.2


def test_the_first_alarm_soon_after_a_drift_is_true_and_all_others_are_false() -> None:
    found = score([5, 20_010, 20_500, 40_000, 75_000], DRIFTS)
    assert found == Score(found=2, missed=2, false_alarms=3, delay=5.0)
    assert score([], DRIFTS).delay == float("inf")


def test_delays_are_of_the_found_drifts_alone() -> None:
    one, none = Score(4, 0, 1, 10.0), Score(0, 4, 3, float("inf"))
    assert mean_score([one, none, Score(2, 2, 2, 40.0)]) == Score(2, 2, 2, 20.0)


def test_on_the_front_is_who_is_beaten_by_nobody() -> None:
    scores = {
        "quick": Score(4, 0, 5, 1.0),
        "calm": Score(4, 0, 0, 90.0),
        "worse": Score(4, 0, 5, 91.0),
        "same": Score(4, 0, 0, 90.0),
        "misses": Score(3, 1, 0, 80.0),
    }
    assert front(scores) == {"quick", "calm", "same", "misses"}
    assert beaten_by(scores, "worse") == ["quick", "calm", "same"]


def test_an_alarm_every_so_often() -> None:
    assert all_alarms(np.zeros(35), Every(10)) == [9, 19, 29]


def test_stepd_compares_the_last_thirty_with_all_before() -> None:
    rng = np.random.default_rng(0)
    values = np.r_[rng.random(2_000) < 0.1, rng.random(300) < 0.6].astype(np.float64)
    found = all_alarms(values, Stepd())
    assert any(2_000 < at < 2_030 for at in found)
    whole = Stepd()
    cut = [i for i in range(0, 2_300, 7) if whole.update(values[i : i + 7]) is not None]
    assert len(cut) == len(found)


def test_naive_bayes_learns_the_rule_and_begins_anew() -> None:
    concept = concepts_of("STAGGER", 1, 1_000)[0]
    learner = NaiveBayes(concept)
    assert learner.errors(0, 1_000)[200:].mean() < 0.02
    learner.reset()
    assert learner.errors(0, 50)[0] == float(concept.classes[0] != 0)


def test_an_alarm_makes_the_learner_begin_anew() -> None:
    found = alarms_with_learner(stream(_numbered(), 1, gradual=False), Every(20_003))
    assert found == [20_002 + i * 20_003 for i in range(4)]
