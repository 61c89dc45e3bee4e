"""``kappa train``: what a user sees."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kappa.cli.main import app
from streams.control import ControlFollower, decode_model_events
from streams.errors import TrainingError
from streams.rollout import Rollout
from streams.topics import ensure_topics
from streams.wire import Registered
from tests.training.pipelines import EVENTS, LABELS, PARTITIONS, V2, Log, new_log
from training.package import load_package

pytestmark = pytest.mark.broker

DECLARATION = """
from serving.pipeline import Pipeline
from tests.training.pipelines import DEFINITION, EVENTS, LABELS, V2
from training.networks.declared import Tabular
from training.spec import Model, Training

pipeline = Pipeline(
    name="{name}",
    events=EVENTS,
    labels=LABELS,
    features=(DEFINITION, V2),
    model=Model(network=Tabular(hidden=(8,)), epochs=2, batch=64, learning_rate=1e-2),
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


@pytest.mark.slow
def test_a_model_of_another_definition_is_registered(log: Log, declared: str) -> None:
    of_v2 = replace(log, topics=replace(log.topics, definition=2), definition=V2)
    ensure_topics(log.bootstrap, of_v2.topics.specs(PARTITIONS))
    of_v2.fill(0, 600)
    train = ["train", "-p", declared, "--ranks", "1", "--json", "--definition", "v2"]
    shown = [json.loads(CliRunner().invoke(app, train).stdout) for _ in range(2)]
    assert [(s["version"], s["definition"]) for s in shown] == [(1, 2), (2, 2)]
    follower = ControlFollower(log.bootstrap, log.topics.models)
    events = decode_model_events(follower.catch_up())
    follower.close()
    assert Rollout().apply_all(events).live == 0, "it waits for the cut-over"
    for event in events:
        assert isinstance(event, Registered)
        assert event.manifest["features"]["topic"] == of_v2.topics.features
        assert event.manifest["definition"] == {"version": 2, "hash": V2.hash(EVENTS, LABELS)}


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
