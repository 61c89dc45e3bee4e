"""``kappa experiment``: what an operator sees, from the plan to what is live then."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from kappa.cli.main import app
from streams.errors import ConfigurationError
from streams.wire import ExperimentStarted, StageChanged
from tests.serving.experiments.experiment_log import ExperimentLog, registered

pytestmark = pytest.mark.broker

EVEN = {1: 0.4, 2: 0.4, 3: 0.4}
BETTER = {1: 0.4, 2: 0.55, 3: 0.4}
PLAN = ("--metric", "label", "--effect", "0.1", "--days", "0.5")


@pytest.fixture
def log(bootstrap: str) -> ExperimentLog:
    return ExperimentLog.new(bootstrap)


@pytest.fixture
def declared(log: ExperimentLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", log.bootstrap)
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    return log.declared(tmp_path)


def run(declared: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["experiment", *arguments, "-p", declared])


def told(declared: str, *arguments: str) -> Any:
    result = run(declared, *arguments, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


def refusal(declared: str, *arguments: str) -> str:
    result = run(declared, *arguments)
    assert isinstance(result.exception, ConfigurationError), result.output
    return str(result.exception)


def started(log: ExperimentLog, declared: str, *options: str) -> None:
    result = run(declared, "start", "colours", "-t", "2", "--no-wait", *PLAN, *options)
    assert result.exit_code == 0, (result.output, result.exception)
    log.activate()


def test_a_better_treatment_is_found_and_put_live(
    log: ExperimentLog, declared: str, tmp_path: Path
) -> None:
    log.answer(400, 1.0, EVEN, seed=1)
    planned = told(declared, "plan", *PLAN[:4])
    assert planned["baseline"] == pytest.approx(0.4, abs=0.03)
    assert planned["method"] == "means"
    started(log, declared)
    assert told(declared, "status")[0]["waiting_partitions"] == []
    log.answer(400, 1.0, BETTER, seed=2)
    out = tmp_path / "report"
    result = run(declared, "report", "colours", "--out", str(out))
    assert result.exit_code == 0, (result.output, result.exception)
    assert "Ship treatment 2" in result.stdout
    found = json.loads((out / "report.json").read_text())
    assert found["verdict"]["winner"] == 2
    assert found["reached"]
    assert found["outcomes"] == 2400
    assert found["mismatches"] == 0
    (effect,) = found["effects"]
    # The draw gave the treatment fewer of those that have many: what was before tells so.
    assert effect["cuped"]["fixed"][0] < 0.15 < effect["cuped"]["fixed"][1]
    assert abs(effect["cuped"]["difference"] - 0.15) < abs(effect["plain"]["difference"] - 0.15)
    assert effect["cuped"]["variance_reduction"] > 0.2
    assert effect["cuped"]["known_before"] == 1.0
    assert effect["cuped"]["error"] < effect["plain"]["error"]
    assert (out / "experiment.png").read_bytes().startswith(b"\x89PNG")
    assert "![The effect over time](experiment.png)" in (out / "report.md").read_text()
    deployed = told(declared, "deploy", "colours")
    assert deployed["live"] == 2
    rollout = log.rollout()
    assert (rollout.live, rollout.stages[1], rollout.stages[2]) == (2, "retired", "live")
    assert rollout.experiment(1) is None
    assert "ended" in run(declared, "status", "colours").stdout


def test_what_can_not_be_started_is_told(log: ExperimentLog, declared: str) -> None:
    def start(*options: str) -> str:
        return refusal(declared, "start", "other", *PLAN, "--sigma", "1", "--no-wait", *options)

    assert "registered are: 1, 2, 3" in start("-t", "9")
    assert "it is the control" in start("-t", "1")
    assert "leaves the control 0" in start("-t", "2", "-t", "3", "--share", "0.5")
    assert "each once" in start("-t", "2", "-m", "label")
    assert "of this task there are" in start("-t", "2", "-m", "mood/entity")
    assert "it has at_ms, minutes" in start("-t", "2", "-m", "label.colour")
    log.append(registered(4, definition=2))
    assert "definition v2" in start("-t", "4")
    log.append(StageChanged(3, "canary", "a test", share=0.1, salt="c"))
    assert "in canary" in start("-t", "2")
    log.append(StageChanged(3, "rolled_back", "a test"))
    started(log, declared, "--sigma", "1")
    assert "experiment colours is running" in start("-t", "3")
    assert "in the log already" in refusal(
        declared, "start", "colours", "-t", "3", *PLAN, "--sigma", "1", "--no-wait"
    )
    assert "there are: colours" in refusal(declared, "report", "no")
    assert isinstance(log.rollout().experiments["colours"].started, ExperimentStarted)


def test_a_plan_without_outcomes_wants_the_figures(declared: str) -> None:
    assert "state --sigma" in refusal(declared, "plan", *PLAN[:4])
    assert "above 0" in refusal(declared, "plan", *PLAN[:4], "--sigma", "1", "--rate", "0")
    asked = ("--baseline", "0.1", "--rate", "1000")
    planned = told(declared, "plan", "-m", "label", "--effect", ".2", "--relative", *asked)
    assert planned["method"] == "proportions, pooled"
    assert planned["effect"] == pytest.approx(0.02)
    assert planned["treatment"] == 3841
    assert planned["days"] == pytest.approx(7.682)
    sized = told(declared, "plan", "-m", "log_loss", "--effect", ".1", "--sigma", "1")
    assert (sized["treatment"], sized["days"]) == (1570, None)
    shown = run(declared, "plan", "-m", "label", "--effect", ".02", *asked, "--arms", "2")
    assert "level 0.05 over 2 comparisons" in shown.stdout


def test_without_workers_it_stands_and_says_so(log: ExperimentLog, declared: str) -> None:
    waited = run(declared, "start", "alone", "-t", "2", *PLAN, "--sigma", "1", "--timeout", "0.2")
    assert waited.exit_code == 1
    assert "it stands" in waited.stderr
    assert log.rollout().experiment(1) is not None
