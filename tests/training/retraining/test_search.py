"""A search on made-up data with real ranks: trials, what is given up, what no trial saw."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.errors import TrainingError
from streams.topics import Topics
from tests.training.learnable import prepared
from tests.training.pipelines import DEFINITION, EVENTS, LABELS
from training.dataset.reading import TrainingData
from training.loop.launch import WarmRanks
from training.networks.declared import Tabular
from training.retraining.fit import Fitted, fit
from training.retraining.job import TrainingJob
from training.retraining.search import Found, search, split_last
from training.retraining.space import Space
from training.retraining.study import Study, Tried
from training.spec import Model, Training

DECLARED = Model(network=Tabular(hidden=(4,)), epochs=2, batch=256, learning_rate=1e-5)
SPACE = Space(
    hidden=(), dropout=(), weight_decay=(), batch=(), half_life=(), learning_rate=(1e-3, 3e-2)
)


@pytest.fixture(scope="module")
def ranks() -> Iterator[WarmRanks]:
    """Ranks that start quickly, for all tests of this file."""
    with WarmRanks() as launch:
        yield launch


def job(home: Path, model: Model = DECLARED) -> TrainingJob:
    return TrainingJob(
        "", Topics("t"), DEFINITION, EVENTS, LABELS, model, Training(), 0, home, "", 1
    )


def run(
    folder: Path, ranks: WarmRanks, most: int, told: list[Tried], declared: Model = DECLARED
) -> Found:
    data = TrainingData(prepared(1500, 1200), {})
    study = Study(folder, folder.name, SPACE, declared, {}, seed=3)
    try:
        return search(job(folder, declared), data, study, [ranks], most, told.append)
    finally:
        study.close()


@pytest.fixture(scope="module")
def searched(
    ranks: WarmRanks, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Found, list[Tried], Path]:
    """One search in two parts, for the tests that look at it: 3 trials, then 5 in all."""
    folder, told = tmp_path_factory.mktemp("search"), list[Tried]()
    first = run(folder, ranks, 3, told)
    assert [tried.place for tried in first.trials] == [0, 1, 2]
    return run(folder, ranks, 5, told), told, folder


def test_it_finds_what_is_better_and_goes_on_where_it_was(
    searched: tuple[Found, list[Tried], Path],
) -> None:
    found, told, _ = searched
    assert [tried.place for tried in told] == [0, 1, 2, 3, 4]
    assert found.trials == told
    declared = found.trials[0]
    assert declared.loss is not None
    assert found.best.loss is not None
    assert found.best.loss < declared.loss
    assert "learning_rate=1e-05" in declared.model


def test_the_best_is_judged_by_what_no_trial_saw(
    searched: tuple[Found, list[Tried], Path],
) -> None:
    found, _, _ = searched
    assert found.examples == (1500, 600, 600)
    assert found.comparison.n == 600
    difference = found.comparison.scores["log_loss"].difference
    assert difference.high < 0, "a learning rate of 1e-5 learns next to nothing in two epochs"
    paired = found.comparison.scores["log_loss"]
    assert paired.challenger != pytest.approx(found.best.loss), "other examples, other loss"


def test_nothing_but_models_is_left(searched: tuple[Found, list[Tried], Path]) -> None:
    _, _, folder = searched
    left = {path.name for path in folder.iterdir()}
    assert left == {"lock", "trials.db", *(f"model-{place}" for place in range(5))}


def fails_at(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the training of one trial fail."""

    def failing(*args: Any, **named: Any) -> Fitted:
        if f"running-{place}" in str(args[3]):
            raise TrainingError("it diverged")
        return fit(*args, **named)

    monkeypatch.setattr("training.retraining.search.fit", failing)


def test_a_trial_that_fails_is_told_and_the_others_go_on(
    ranks: WarmRanks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_at(1, monkeypatch)
    found = run(tmp_path / "s", ranks, 3, [])
    assert [tried.error for tried in found.trials] == [None, "it diverged", None]
    assert found.best.place in (0, 2)


def test_what_is_declared_must_be_trainable(
    ranks: WarmRanks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_at(0, monkeypatch)
    with pytest.raises(TrainingError, match="it diverged"):
        run(tmp_path / "s", ranks, 3, [])


def test_there_must_be_enough_to_judge_by() -> None:
    with pytest.raises(TrainingError, match="300 examples of the validation slice are too few"):
        split_last(prepared(500, 300))


def test_events_of_one_time_are_not_parted() -> None:
    data = prepared(500, 1000)
    data.validation.event_times_ms[480:520] = data.validation.event_times_ms[480]
    judging, last = split_last(data)
    assert (len(judging.validation), len(last)) == (480, 520)
