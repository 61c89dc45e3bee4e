"""``kappa models promote|rollback|pin|unpin`` and ``kappa rollout``: what a user sees."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from kappa.cli.main import app
from streams.assignment import place_of
from streams.errors import ConfigurationError
from streams.topics import Topics
from streams.wire import StageChanged
from tests.serving.feature_stream import (
    append,
    emit,
    live,
    new_pipeline,
    registered,
    wait_drained,
    working,
)

pytestmark = pytest.mark.broker

DECLARATION = """
from serving.pipeline import Pipeline
from tests.serving.feature_stream import DEFINITION, EVENTS, PRIOR
from tests.training.pipelines import LABELS
from training.spec import Model

pipeline = Pipeline(
    name="{name}", events=EVENTS, labels=LABELS, features=DEFINITION, model=Model(prior=PRIOR)
)
"""


@pytest.fixture
def topics(bootstrap: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Topics:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path))
    made = new_pipeline(bootstrap)
    append(bootstrap, made, registered(1), registered(2), registered(3), live(1))
    return made


@pytest.fixture
def declared(topics: Topics, tmp_path: Path) -> Path:
    path = tmp_path / f"{topics.name}.py"
    path.write_text(DECLARATION.format(name=topics.name))
    return path


def run(declared: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(app, [*arguments, "-p", str(declared)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def told(declared: Path, *arguments: str) -> Any:
    result = run(declared, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])  # before it the worker in a thread logs


def test_a_version_is_promoted_step_by_step_and_rolled_back(
    bootstrap: str, topics: Topics, declared: Path
) -> None:
    with working(bootstrap, topics):
        found = told(declared, "models", "promote", "2", "--to", "canary", "--share", "0.25")
        assert (found["obeyed"], found["change"]["by"]) == (True, "operator")
        status = told(declared, "rollout", "status")["definitions"][0]
        assert (status["live"], status["obeyed"]) == (1, True)
        assert [(a["version"], a["stage"], a["share"]) for a in status["arms"]] == [
            (2, "canary", 0.25)
        ]
        listed = {m["version"]: m for m in told(declared, "models", "list")}
        assert (listed[2]["stage"], listed[2]["share"], listed[1]["stage"]) == (
            "canary", 0.25, "live",
        )  # fmt: skip
        who = told(declared, "rollout", "who", "shop0")
        place = place_of(status["salt"], "shop0")
        assert (who["version"], who["place"]) == (2 if place < 0.25 else 1, place)
        assert told(declared, "models", "promote", "v2")["obeyed"]
        emit(bootstrap, topics, 0, range(30))
        wait_drained(bootstrap, topics)
        rolled = told(declared, "models", "rollback", "--reason", "it fails on shops")
    assert rolled["change"]["instead"] == 1
    assert [(r["partition"], r["first"], r["predictions"]) for r in rolled["affected"]] == [
        (0, 0, 30)
    ]
    assert told(declared, "rollout", "who", "shop0", "--at", "10/0")["version"] == 2
    assert told(declared, "rollout", "who", "shop0", "--at", "40/0")["version"] == 1
    changes = told(declared, "rollout", "status")["changes"]
    assert [c["change"] for c in changes] == [0, 1, 2, 3]
    assert (changes[-1]["reason"], changes[-1]["by"]) == ("it fails on shops", "operator")
    shown = run(declared, "rollout", "status").stdout
    assert "model 1" in shown
    assert "Changes" in shown
    assert "rolled" in run(declared, "models", "list").stdout


def test_without_a_worker_the_change_stands_and_the_user_is_told(
    topics: Topics, declared: Path
) -> None:
    result = run(declared, "models", "promote", "2", "--timeout", "0.3")
    assert result.exit_code == 0
    assert "kappa up" in result.stderr
    assert told(declared, "rollout", "status")["definitions"][0]["live"] == 2
    pinned = told(declared, "models", "pin", "1", "--timeout", "0")
    assert (pinned["obeyed"], pinned["partitions_left"]) == (False, [0, 1])
    assert told(declared, "rollout", "status")["definitions"][0]["pinned"] == 1
    assert "pinned" in run(declared, "models", "list").stdout
    with pytest.raises(ConfigurationError, match="unpin"):
        run(declared, "models", "promote", "3", "--timeout", "0")
    told(declared, "models", "unpin")
    with pytest.raises(ConfigurationError, match="nothing is pinned"):
        run(declared, "models", "unpin")


def test_a_shadow_begins_where_the_features_end(
    bootstrap: str, topics: Topics, declared: Path
) -> None:
    emit(bootstrap, topics, 0, range(7))
    found = told(declared, "models", "promote", "3", "--to", "shadow")
    assert found["change"]["since"] == {"0": 7, "1": 0}
    gone = told(declared, "models", "rollback", "3", "--timeout", "0")
    assert gone["change"].get("instead") is None
    assert gone["affected"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("promote", "7"), "there is no model 7; registered are: 1, 2, 3"),
        (("promote", "x"), "is no version"),
        (("promote", "1"), "is live .* already"),
        (("promote", "2", "--to", "canary", "--share", "1.5"), r"lies in \(0, 1\]"),
        (("promote", "2", "--to", "canary", "--share", "nan"), r"lies in \(0, 1\]"),
        (("promote", "2", "--share", "0.5"), "--share is of a canary"),
        (("promote", "2", "--to", "nowhere"), "shadow, canary or live"),
        (("rollback", "3"), "answers nothing"),
        (("rollback", "--to", "9"), "there is no model 9"),
        (("rollback", "--to", "1"), "the version that is rolled back"),
        (("rollback", "2", "--to", "1"), "is not live"),
        (("pin", "9"), "there is no model 9"),
    ],
)
def test_what_can_not_be_is_refused_with_the_reason(
    declared: Path, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run(declared, "models", *arguments, "--timeout", "0")


def test_one_canary_at_a_time(bootstrap: str, topics: Topics, declared: Path) -> None:
    append(bootstrap, topics, StageChanged(2, "canary", "x", share=0.1, change=1))
    with pytest.raises(ConfigurationError, match="model 2 is in canary"):
        run(declared, "models", "promote", "3", "--to", "canary", "--timeout", "0")
    with pytest.raises(ConfigurationError, match="of the entities already"):
        run(declared, "models", "promote", "2", "--to", "canary", "--timeout", "0")
    with pytest.raises(ConfigurationError, match="OFFSET/PARTITION"):
        run(declared, "rollout", "who", "shop0", "--at", "7")
    with pytest.raises(ConfigurationError, match="partitions 0 to 1"):
        run(declared, "rollout", "who", "shop0", "--at", "7/2")
