"""Tasks end to end: from targets to calibrated answers of a loaded package."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.learnable import CATEGORIES, NUMERIC, examples
from training.calibration import Platt
from training.dataset.prepared import Examples, PreparedData
from training.loop.launch import Check, EpochReport, go_on
from training.loop.rank import main
from training.networks.declared import Experts, Tabular
from training.networks.tasks import MultiClass, Regression
from training.package import load_package
from training.retraining.fit import Fitted, fit
from training.retraining.gate import refusal
from training.retraining.warm import Initial
from training.scores import losses
from training.spec import Model, Training
from training.torch_runtime import BLOCK_ROWS

MATERIALS = MultiClass(("brick", "steel", "wood"))
MODEL = Model(network=Tabular((24,)), batch=64, epochs=6, learning_rate=1e-2)


def in_this_process(folder: Path, ranks: int, on_epoch: EpochReport, check: Check = go_on) -> None:
    """Run one rank here, where torch is imported already."""
    main(folder / "job.json")


def with_classes(rows: Examples) -> Examples:
    """Return the rows with a class that follows from their site, a third of them by chance."""
    site = np.array([int(text[-1]) for text in rows.categories[0]])
    rng = np.random.default_rng(len(rows))
    return replace(
        rows, targets=np.where(rng.random(len(rows)) < 0.3, rng.integers(0, 3, len(rows)), site % 3)
        .astype(np.float64),
    )  # fmt: skip


def with_numbers(rows: Examples) -> Examples:
    """Return the rows with a number whose spread depends on the site."""
    site = np.array([int(text[-1]) for text in rows.categories[0]])
    speed = np.tanh(np.nan_to_num(rows.numeric[:, 0]))
    noise = np.random.default_rng(len(rows)).normal(size=len(rows))
    return replace(rows, targets=1000 + 50 * speed + 10 * (1 + site) * noise)


def of(made: object, n: int, seed: int) -> Examples:
    return with_classes(examples(n, seed)) if made is MATERIALS else with_numbers(examples(n, seed))


def data_of(task: object) -> PreparedData:
    return PreparedData(NUMERIC, CATEGORIES, of(task, 1500, 1), of(task, 700, 2))


def trained(task: MultiClass | Regression, folder: Path, model: Model = MODEL) -> Fitted:
    return fit(
        data_of(task), replace(model, task=task), Training(), folder, 1, launch=in_this_process
    )


def test_several_classes(tmp_path: Path) -> None:
    fitted = trained(MATERIALS, tmp_path / "run")
    metrics = fitted.metrics
    assert refusal(metrics) is None
    assert metrics["log_loss"] < 0.8 * metrics["base_rate_log_loss"]
    assert metrics["accuracy"] > 0.7
    fitted.save(tmp_path / "model", {})
    package = load_package(str(tmp_path / "model"))
    assert package.task == MATERIALS
    rows = data_of(MATERIALS).validation
    answers = package.answers(rows)
    assert answers.probabilities is not None
    assert answers.probabilities.shape == (700, 3)
    assert answers.probabilities.sum(axis=1) == pytest.approx(1.0)
    assert answers.score.tolist() == answers.probabilities.max(axis=1).tolist()
    loss = losses(MATERIALS, answers, rows.targets)["log_loss"].mean()
    assert loss == pytest.approx(metrics["log_loss"], abs=1e-6)


def test_a_regression(tmp_path: Path) -> None:
    fitted = trained(Regression(), tmp_path / "run")
    metrics = fitted.metrics
    assert refusal(metrics) is None
    assert metrics["log_loss"] < metrics["base_rate_log_loss"] - 0.1
    fitted.save(tmp_path / "model", {})
    rows = data_of(Regression()).validation
    answers = load_package(str(tmp_path / "model")).answers(rows)
    assert answers.spread is not None
    errors = np.abs(answers.score - rows.targets)
    assert np.sqrt((errors**2).mean()) == pytest.approx(metrics["rmse"], rel=1e-6)
    assert (errors < 1.645 * answers.spread).mean() == pytest.approx(0.9, abs=0.04)
    site = np.array([int(text[-1]) for text in rows.categories[0]])
    assert answers.spread[site == 4].mean() > 2 * answers.spread[site == 0].mean()


def test_a_warm_start_keeps_the_units_of_a_regression(tmp_path: Path) -> None:
    first = trained(Regression(), tmp_path / "run")
    moved = data_of(Regression())
    shifted = replace(moved, train=replace(moved.train, targets=moved.train.targets + 5))
    again = fit(
        shifted,
        replace(MODEL, task=Regression(), epochs=1, learning_rate=1e-9, schedule="constant"),
        Training(),
        tmp_path / "warm",
        1,
        launch=in_this_process,
        initial=Initial(first.encoding, first.weights, "0" * 64, first.calibration.standard),  # type: ignore[attr-defined]
    )
    np.testing.assert_allclose(again.outputs, first.outputs, atol=1e-4)
    assert again.metrics["rmse"] == pytest.approx(first.metrics["rmse"], rel=1e-3)


@pytest.mark.parametrize("task", [MATERIALS, Regression()], ids=["classes", "regression"])
def test_an_answer_depends_on_its_row_alone(task: MultiClass | Regression, tmp_path: Path) -> None:
    network = Tabular((9,), experts=Experts(count=3, hidden=5, capacity=1.0))
    fitted = trained(task, tmp_path / "run", replace(MODEL, network=network, epochs=1))
    fitted.save(tmp_path / "model", {})
    package = load_package(str(tmp_path / "model"))
    rows = of(task, BLOCK_ROWS + 40, 5)
    together = package.answers(rows)
    for size in (1, 7, 100):
        parts = [package.answers(rows.some(slice(i, i + size))) for i in range(0, len(rows), size)]
        for name in ("score", "probabilities", "spread"):
            whole = getattr(together, name)
            if whole is not None:
                apart = np.concatenate([getattr(part, name) for part in parts])
                assert apart.tobytes() == whole.tobytes(), (size, name)


@pytest.mark.parametrize(
    "model",
    [replace(MODEL, keep_negatives=0.2), replace(MODEL, class_weight=5.0)],
    ids=["keep_negatives", "class_weight"],
)
def test_what_the_classes_were_made_to_count_is_undone(model: Model, tmp_path: Path) -> None:
    data = PreparedData(NUMERIC, CATEGORIES, examples(4000, 1), examples(2000, 2))
    fitted = fit(data, model, Training(), tmp_path, 1, launch=in_this_process)
    assert fitted.calibration.to_json()["shift"] == pytest.approx(np.log(5.0))
    share = data.validation.targets.mean()
    as_trained = Platt().answers(fitted.outputs).score.mean()
    undone = Platt(shift=np.log(5.0)).answers(fitted.outputs).score.mean()
    assert as_trained > share + 0.1
    assert undone == pytest.approx(share, abs=0.06)
    assert fitted.calibration.answers(fitted.outputs).score.mean() == pytest.approx(share, abs=0.01)
