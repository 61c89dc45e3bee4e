"""``kappa train``: what a user sees."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kappa.cli.main import app
from streams.errors import TrainingError
from tests.training.pipelines import Log, new_log
from training.package import load_package

pytestmark = pytest.mark.broker

DECLARATION = """
from serving.pipeline import Pipeline
from tests.training.pipelines import DEFINITION, EVENTS, LABELS
from training.spec import Model, Training

pipeline = Pipeline(
    name="{name}",
    events=EVENTS,
    labels=LABELS,
    features=DEFINITION,
    model=Model(hidden=(8,), epochs=2, batch=64, learning_rate=1e-2),
    training=Training(window=None, minimum_examples=100),
)
"""


@pytest.fixture
def log(bootstrap: str) -> Log:
    return new_log(bootstrap)


@pytest.fixture
def declared(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The file of a pipeline on the test's log."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", log.bootstrap)
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    path = tmp_path / f"{log.topics.name}.py"
    path.write_text(DECLARATION.format(name=log.topics.name))
    return str(path)


@pytest.mark.slow
def test_a_training_is_judged_and_lies_on_disk(log: Log, declared: str, tmp_path: Path) -> None:
    log.fill(0, 600)
    result = CliRunner().invoke(app, ["train", "-p", declared, "--ranks", "1", "--json"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["refused"] is None
    assert shown["metrics"]["n_train"] + shown["metrics"]["n_validation"] == 600
    assert Path(shown["manifest"]).is_relative_to(tmp_path / "home" / "pipelines")
    package = load_package(shown["package"], shown["sha256"])
    assert package.manifest["data_sha256"] == shown["data_sha256"]
    assert "epoch 2 of at most 2" in result.stderr


def test_until_leaves_out_what_came_later(log: Log, declared: str) -> None:
    log.fill(0, 600)
    until = ["--until", "2020-09-13T12:27:00"]  # the log begins 20 s before, one event a second
    result = CliRunner().invoke(app, ["train", "-p", declared, *until])
    assert isinstance(result.exception, TrainingError)
    assert str(result.exception).startswith("20 labelled examples, but minimum_examples is 100")


def test_an_empty_log_is_told(declared: str) -> None:
    result = CliRunner().invoke(app, ["train", "-p", declared])
    assert isinstance(result.exception, TrainingError)
    assert "kappa produce" in str(result.exception)
