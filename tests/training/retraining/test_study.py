"""The trials of a search, kept in a file: what is tried is a function of the seed and the past."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streams.errors import ConfigurationError
from training.networks.declared import Tabular
from training.retraining.space import Space, declaration, values_of
from training.retraining.study import Asked, Study, begun_with
from training.spec import Model

DECLARED = Model(network=Tabular(hidden=(16,)), weight_decay=0.0)
SPACE = Space(hidden=((16,), (32, 16)), half_life=())
ABOUT = {"data_sha256": "aa", "cutoff_ms": 7}


@contextmanager
def study(folder: Path, **about: object) -> Iterator[Study]:
    opened = Study(folder, folder.name, SPACE, DECLARED, {**ABOUT, **about}, seed=7)
    try:
        yield opened
    finally:
        opened.close()


def loss_of(model: Model) -> float:
    """The made-up loss of a trial: small learning rates win."""
    return float(values_of(model)["learning_rate"])


def run(opened: Study, most: int) -> list[Model]:
    tried = []
    while (asked := opened.ask(most)) is not None:
        opened.report(asked, 0, loss_of(asked.model))
        opened.finish(asked, loss_of(asked.model), Path(f"model-{asked.place}"))
        tried.append(asked.model)
    return tried


def test_what_is_declared_is_tried_first_and_every_trial_is_kept(tmp_path: Path) -> None:
    with study(tmp_path / "s") as opened:
        models = run(opened, 6)
        trials = opened.trials()
    assert models[0] == DECLARED
    assert len({declaration(model) for model in models}) == 6
    assert [tried.place for tried in trials] == list(range(6))
    assert [tried.model for tried in trials] == [declaration(model) for model in models]
    assert [tried.loss for tried in trials] == [loss_of(model) for model in models]
    assert trials[3].package == "model-3"


def test_one_that_was_interrupted_tries_what_it_would_have_tried(tmp_path: Path) -> None:
    with study(tmp_path / "whole") as opened:
        whole = run(opened, 14)
    with study(tmp_path / "parts") as opened:
        parts = run(opened, 11)
        died = opened.ask(14)  # and its process with it
        assert died is not None
    with study(tmp_path / "parts") as opened:
        assert len(opened.trials()) == 11
        parts += run(opened, 14)
    assert parts == whole
    assert died.model == whole[11]


def test_a_trial_above_the_median_is_given_up(tmp_path: Path) -> None:
    with study(tmp_path / "s") as opened:
        for _ in range(6):
            asked = ask(opened)
            for epoch in range(4):
                assert not opened.report(asked, epoch, 0.5)
            opened.finish(asked, 0.5, Path("model"))
        worse, better = ask(opened), ask(opened)
        assert not opened.report(worse, 0, 0.9), "the first epoch says little"
        assert opened.report(worse, 1, 0.9)
        assert not opened.report(better, 0, 0.4)
        assert not opened.report(better, 1, 0.4)
        told = opened.give_up(worse)
        failed = opened.give_up(better, "diverged")
    assert (told.loss, told.epochs, told.error) == (None, 2, None)
    assert (failed.loss, failed.error) == (None, "diverged")


def ask(opened: Study) -> Asked:
    asked = opened.ask(100)
    assert asked is not None
    return asked


def test_a_study_of_other_data_is_not_gone_on_with(tmp_path: Path) -> None:
    with study(tmp_path / "s") as opened:
        run(opened, 1)
    with (
        pytest.raises(ConfigurationError, match="begun with another data_sha256"),
        study(tmp_path / "s", data_sha256="bb"),
    ):
        pass
    assert begun_with(tmp_path / "s") == {**ABOUT, "space": repr(SPACE)}
    assert begun_with(tmp_path / "none") is None


def test_two_processes_do_not_search_one_study(tmp_path: Path) -> None:
    with (
        study(tmp_path / "s"),
        pytest.raises(ConfigurationError, match="another process"),
        study(tmp_path / "s"),
    ):
        pass
