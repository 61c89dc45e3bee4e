from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streams.errors import TrainingError
from tests.training.learnable import NUMERIC, examples, prepared
from training.dataset.prepared import Examples, PreparedData
from training.dataset.weights import recency_weights
from training.loop.launch import Check, EpochReport, go_on
from training.loop.rank import main
from training.loop.run_folder import read_job
from training.networks.declared import Tabular
from training.retraining.fit import fit
from training.spec import Model, Training

MODEL = Model(network=Tabular(hidden=(16,)), batch=64, epochs=3)


class CountingLauncher:
    """Runs the single rank in this process and counts how often it was asked to."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(
        self, folder: Path, ranks: int, on_epoch: EpochReport, check: Check = go_on
    ) -> None:
        assert ranks == 1
        self.runs += 1
        check()
        main(folder / "job.json")
        on_epoch({"epoch": 0, "train_loss": 0.5, "validation_loss": 0.6})


def test_metrics_beat_the_base_rate_and_count_the_examples(tmp_path: Path) -> None:
    lines: list[str] = []
    fitted = fit(
        prepared(), MODEL, Training(), tmp_path, 1, lines.append, launch=CountingLauncher()
    )
    metrics = fitted.metrics
    assert metrics["log_loss"] < metrics["base_rate_log_loss"]
    assert 0 < metrics["brier"] < 0.25
    assert metrics["accuracy"] > 0.6
    assert (metrics["n_train"], metrics["n_validation"]) == (2000, 500)
    assert lines == [
        "starting 1 ranks",
        "epoch 1 of at most 3: training loss 0.5000, validation loss 0.6000",
    ]
    assert [line["epoch"] for line in fitted.history] == [0, 1, 2]


def test_the_same_job_in_the_same_folder_is_not_trained_twice(tmp_path: Path) -> None:
    launch = CountingLauncher()
    first = fit(prepared(), MODEL, Training(), tmp_path, 1, launch=launch)
    again = fit(prepared(), MODEL, Training(), tmp_path, 1, launch=launch)
    assert launch.runs == 1
    assert first.metrics == again.metrics
    other = fit(prepared(), MODEL, Training(seed=8), tmp_path, 1, launch=launch)
    assert launch.runs == 2
    assert other.metrics != first.metrics


def test_the_model_s_parameters_reach_the_ranks(tmp_path: Path) -> None:
    model = Model(
        network=Tabular(hidden=(5, 4), dropout=0.3),
        epochs=2,
        batch=33,
        accumulate=2,
        learning_rate=0.01,
    )
    fit(prepared(), model, Training(seed=11), tmp_path, 1, launch=CountingLauncher())
    job = read_job(tmp_path / "job.json")
    assert (job.shape.network, job.epochs, job.batch) == (model.network, 2, 33)
    assert (job.accumulate, job.learning_rate, job.seed, job.clip) == (2, 0.01, 11, 1.0)


def test_weights_halve_with_every_half_life() -> None:
    day_ms = 86_400_000
    weights = recency_weights(np.array([0, 14, 28, 21], np.int64) * day_ms, "14d")
    assert weights / weights[2] == pytest.approx([0.25, 0.5, 1.0, 0.5**0.5])
    assert weights.mean() == pytest.approx(1.0)
    assert recency_weights(np.array([0, 5], np.int64), None).tolist() == [1.0, 1.0]


def test_recent_examples_count_more(tmp_path: Path) -> None:
    old, new = examples(1500, 1), examples(1500, 2)
    flipped = Examples(old.numeric, old.categories, 1 - old.targets, old.event_times_ms)
    both = Examples(
        np.concatenate([flipped.numeric, new.numeric]),
        [[*flipped.categories[0], *new.categories[0]]],
        np.concatenate([flipped.targets, new.targets]),
        np.concatenate([old.event_times_ms, new.event_times_ms + 1500 * 60_000]),
    )
    data = PreparedData(NUMERIC, ("site",), both, examples(500, 3))
    losses = [
        fit(
            data,
            Model(network=Tabular(hidden=(16,)), batch=64, epochs=3, half_life=half_life),
            Training(),
            tmp_path / str(half_life),
            1,
            launch=CountingLauncher(),
        ).metrics["log_loss"]
        for half_life in (None, "5h")
    ]
    assert losses[1] < losses[0] - 0.05


def test_what_can_not_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="at least 1"):
        fit(prepared(), MODEL, Training(), tmp_path, 0, launch=CountingLauncher())
    with pytest.raises(TrainingError, match="validation slice is empty"):
        PreparedData(NUMERIC, ("site",), examples(5, 1), examples(0, 1))
    half = replace(examples(50, 1), targets=np.full(50, 0.5))
    with pytest.raises(TrainingError, match=r"a target is 0\.5, which is none of a Binary task"):
        fit(PreparedData(NUMERIC, ("site",), half, half), MODEL, Training(), tmp_path, 1)
    with pytest.raises(TrainingError, match=r"2 categories\[0\] but 1 targets"):
        Examples(np.zeros((1, 1)), [["a", "b"]], np.zeros(1), np.zeros(1, np.int64))
    with pytest.raises(TrainingError, match="the definition 1 and 1"):
        PreparedData(("speed",), ("site",), examples(5, 1), examples(5, 2))


def test_a_diverged_training_is_an_error(tmp_path: Path) -> None:
    model = Model(network=Tabular(hidden=(16,)), batch=64, epochs=1, learning_rate=1e30)
    with pytest.raises(TrainingError, match="diverged"):
        fit(prepared(), model, Training(), tmp_path, 1, launch=CountingLauncher())
