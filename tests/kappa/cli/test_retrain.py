"""``kappa retrain``: what an operator sees."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kappa.cli.main import app
from streams.control import ControlFollower, decode_command
from streams.errors import DefinitionError, TrainingError
from streams.wire import Retrain
from tests.training.pipelines import Log, new_log, time_ms
from tests.training.retraining.test_trainer import GOOD, FakeTraining, running, trainer

pytestmark = pytest.mark.broker

DECLARATION = """
from serving.pipeline import Pipeline
from tests.training.pipelines import DEFINITION, EVENTS, LABELS

pipeline = Pipeline(name="{name}", events=EVENTS, labels=LABELS, features=DEFINITION)
"""


@pytest.fixture
def log(bootstrap: str) -> Log:
    filled = new_log(bootstrap)
    filled.fill(0, 40)
    return filled


@pytest.fixture
def declared(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The file of a pipeline on the test's log."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", log.bootstrap)
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    path = tmp_path / f"{log.topics.name}.py"
    path.write_text(DECLARATION.format(name=log.topics.name))
    return str(path)


def run(declared: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["retrain", "-p", declared, *options])


def commands(log: Log) -> list[object]:
    follower = ControlFollower(log.bootstrap, log.topics.commands)
    try:
        return [decode_command(value) for value in follower.catch_up()]
    finally:
        follower.close()


def test_the_command_stands_in_the_log_with_its_options(log: Log, declared: str) -> None:
    until = ["--until", "2020-09-13T12:27:00"]
    result = run(declared, "--warm", "--window", "all", "--reason", "a new station", *until)
    assert result.exit_code == 0, result.output
    assert "asked for: operator-" in result.stdout
    (command,) = commands(log)
    assert isinstance(command, Retrain)
    assert (command.start, command.window, command.reason) == ("warm", "all", "a new station")
    assert command.cutoff_ms == time_ms(20)


def test_without_options_it_is_as_declared_and_on_all_that_is_there(
    log: Log, declared: str
) -> None:
    assert run(declared).exit_code == 0
    (command,) = commands(log)
    assert isinstance(command, Retrain)
    assert (command.start, command.window) == (None, None)
    assert command.cutoff_ms == time_ms(39) + 501  # the last label is half a step behind it


def test_a_date_in_the_future_is_not_written_into_the_log(log: Log, declared: str) -> None:
    assert run(declared, "--until", "2999-01-01").exit_code == 0
    (command,) = commands(log)
    assert isinstance(command, Retrain)
    assert command.cutoff_ms < 32_000_000_000_000


@pytest.mark.parametrize(
    ("metrics", "words", "status"),
    [
        (GOOD, "model 1 is live: asked for by an operator; log loss 0.4000", 0),
        ({**GOOD, "log_loss": 0.7}, "refused: log loss 0.7000 on later data is not better", 1),
    ],
)
def test_the_answer_is_waited_for(
    log: Log, declared: str, tmp_path: Path, metrics: dict[str, float], words: str, status: int
) -> None:
    worker = trainer(log.bootstrap, log.topics, tmp_path, FakeTraining(metrics))
    with running(worker):
        result = run(declared, "--wait", "--timeout", "60")
    assert result.exit_code == status, result.output
    assert any(line.startswith(words) for line in result.stdout.splitlines()), result.stdout


def test_without_a_trainer_the_command_stands(log: Log, declared: str) -> None:
    result = run(declared, "--wait", "--timeout", "0", "--json")
    assert result.exit_code == 1
    shown = json.loads(result.stdout)
    assert shown["answer"] is None
    (command,) = commands(log)
    assert isinstance(command, Retrain)
    assert command.command_id == shown["command_id"]


def test_what_makes_no_sense_is_refused_before_it_is_in_the_log(log: Log, declared: str) -> None:
    result = run(declared, "--window", "a month")
    assert isinstance(result.exception, DefinitionError)
    assert not commands(log)


@pytest.mark.usefixtures("declared")
def test_an_empty_log_is_told(bootstrap: str, tmp_path: Path) -> None:
    empty = new_log(bootstrap)
    path = tmp_path / f"{empty.topics.name}.py"
    path.write_text(DECLARATION.format(name=empty.topics.name))
    result = run(str(path))
    assert isinstance(result.exception, TrainingError)
    assert not commands(empty)


def test_each_gets_the_answer_to_its_own_command(log: Log, declared: str, tmp_path: Path) -> None:
    with running(trainer(log.bootstrap, log.topics, tmp_path, FakeTraining())):
        results = [run(declared, "--wait", "--json") for _ in range(2)]
    lines = [line for result in results for line in result.stdout.splitlines()]
    shown = [json.loads(line) for line in lines if line.startswith("{")]  # beside the worker's log
    assert [one["answer"]["version"] for one in shown] == [1, 2]
    assert all(one["answer"]["command_id"] == one["command_id"] for one in shown)
