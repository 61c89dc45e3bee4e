"""The figures of a comparison: intervals over blocks of time, PSI, tasks."""

import numpy as np
import pytest

from serving.shadowing.figures import MAX_BINS, Figures, TimeBins
from serving.shadowing.pairs import Pairs
from serving.shadowing.periods import periods
from training.networks.tasks import Binary, MultiClass, Regression, Task
from training.retraining.comparison import interval

MINUTE = 60_000


def pairs(live: list[list[float]], answers: list[list[float]], labels: list[float]) -> Pairs:
    """Return events a minute apart."""
    n = len(live)
    return Pairs(
        [f"e{i}" for i in range(n)],
        np.arange(n) * MINUTE,
        np.ones(n, np.int64),
        np.array(live),
        np.array(answers),
        np.array(labels),
    )


def test_an_interval_of_equal_blocks_is_that_of_batch_means() -> None:
    """And it stays so when bins are put together."""
    random = np.random.default_rng(3)
    n = 20 * 1024
    differences = np.repeat(random.normal(size=n // 64), 64) + random.normal(size=n)
    bins = TimeBins(1)
    bins.add(np.arange(n) * MINUTE, differences[:, None])
    assert len(bins.sums) <= MAX_BINS < n
    found, expected = bins.interval(0), interval(differences)
    assert found is not None
    for name in ("mean", "low", "high"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-9)


def test_too_little_time_has_no_interval() -> None:
    bins = TimeBins(1)
    bins.add(np.zeros(1_000, np.int64), np.ones((1_000, 1)))
    assert bins.interval(0) is None


@pytest.mark.parametrize(
    ("task", "live", "answer", "label", "differ", "score"),
    [
        (Binary(), [0.6], [0.4], 1.0, 1.0, "log_loss"),
        (MultiClass(("a", "b")), [0.7, 0.3], [0.2, 0.8], 0.0, 1.0, "brier"),
        (Regression(), [3.0, 1.0], [3.5, 1.0], 3.0, None, "crps"),
    ],
    ids=["binary", "classes", "regression"],
)
def test_each_task_has_its_figures(
    task: Task, live: list[float], answer: list[float], label: float, differ: float, score: str
) -> None:
    figures = Figures(task, periods("UTC", "day"))
    figures.add(pairs([live] * 40, [answer] * 40, [label] * 30 + [np.nan] * 10))
    told = figures.to_json()
    assert (told["rows"], told["labelled"]) == (40, 30)
    assert told["decisions_differ"] == differ
    assert told["scores"][score]["version"] > told["scores"][score]["live"]


def test_scores_that_moved_have_a_psi() -> None:
    random = np.random.default_rng(5)
    scores = random.uniform(size=4_000)
    same, moved = Figures(Binary(), periods("UTC", "day")), Figures(Binary(), periods("UTC", "day"))
    unknown = [np.nan] * len(scores)
    live = scores[:, None].tolist()
    same.add(pairs(live, random.permutation(scores)[:, None].tolist(), unknown))
    moved.add(pairs(live, (scores**3)[:, None].tolist(), unknown))
    assert (same.psi() or 0.0) < 0.02
    assert (moved.psi() or 0.0) > 0.25
