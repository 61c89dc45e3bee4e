"""``kappa models`` and ``kappa train --manifest``: what a user sees, on a real broker."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from kappa.cli.main import app
from streams.control import ControlWriter
from streams.errors import ConfigurationError, TrainingError
from streams.wire import StageChanged
from tests.training.pipelines import Log, new_log

pytestmark = [pytest.mark.broker, pytest.mark.slow]

DECLARATION = """
from serving.pipeline import Pipeline
from tests.training.pipelines import DEFINITION, EVENTS, LABELS
from training.networks.declared import Tabular
from training.spec import Model, Training

pipeline = Pipeline(
    name="{name}",
    events=EVENTS,
    labels=LABELS,
    features=DEFINITION,
    model=Model(
        network=Tabular(hidden=(8,), dropout=0.1), epochs=2, batch=64, learning_rate=1e-2,
        class_weight="balanced", keep_negatives=0.8,
    ),
    training=Training(window=None, minimum_examples=100),
)
"""


def run(declared: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "-p", str(declared)])


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def log(bootstrap: str) -> Log:
    return new_log(bootstrap)


@pytest.fixture(scope="module")
def declared(log: Log, environment: Path) -> Path:
    path = environment / f"{log.topics.name}.py"
    path.write_text(DECLARATION.format(name=log.topics.name))
    return path


@pytest.fixture(autouse=True)
def settings(log: Log, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", log.bootstrap)
    monkeypatch.setenv("KAPPA_HOME", str(environment / "home"))


@pytest.fixture(scope="module")
def trained(log: Log, declared: Path, environment: Path) -> list[dict[str, Any]]:
    """Two versions: a full training that goes live, and a warm start from it on a longer log."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAFKA_BOOTSTRAP_SERVERS", log.bootstrap)
        patch.setenv("KAPPA_HOME", str(environment / "home"))
        told = []
        for end, start in ((600, "--full"), (800, "--warm")):
            log.fill(0 if end == 600 else 600, end)
            options = ["train", "--definition", "v1", "--ranks", "1", "--json", start]
            result = run(declared, *options)
            assert result.exit_code == 0, result.output
            told.append(json.loads(result.stdout))
            live = StageChanged(version=told[-1]["version"], stage="live", reason="test")
            ControlWriter(log.bootstrap).append_model_event(log.topics.models, live)
        log.fill(800, 900)  # what comes later is not read again
        return told


def test_lists_and_shows_what_the_log_says(declared: Path, trained: list[dict[str, Any]]) -> None:
    listed = json.loads(run(declared, "models", "list", "--json").stdout)
    assert [(m["version"], m["stage"], m["parent"], m["examples"]) for m in listed] == [
        (1, "retired", None, 600), (2, "live", 1, 800)
    ]  # fmt: skip
    assert "live" in run(declared, "models", "list").stdout
    shown = json.loads(run(declared, "models", "show", "live", "--json").stdout)
    assert shown["version"] == 2
    assert shown["sha256"] == trained[1]["sha256"]
    assert shown["manifest"]["parent"]["version"] == 1
    assert "manifest.seed" in run(declared, "models", "show", "1").stdout


def test_a_warm_model_comes_out_the_same_again(
    declared: Path, trained: list[dict[str, Any]], environment: Path
) -> None:
    result = run(declared, "models", "verify", "2", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["equal"]
    assert {row["what"] for row in found["rows"]} >= {"weights", "encoding", "calibration", "data"}
    assert found["environment"] == []
    assert not list((environment / "home").rglob(".verify-*")), "the scratch folder is left"


def test_a_manifest_makes_its_model_again(declared: Path, trained: list[dict[str, Any]]) -> None:
    package = Path(trained[0]["package"])
    before = (package / "manifest.json").stat().st_ino
    result = run(declared, "train", "--manifest", str(package / "manifest.json"))
    assert result.exit_code == 0, result.output
    assert "the same model, bit for bit" in result.stdout
    assert (package / "manifest.json").stat().st_ino == before, "somebody may be loading it"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"definition": {"version": 1, "hash": "f" * 64}}, "the model was trained on ffffffffffff"),
        ({"definition": {"version": 9, "hash": "f" * 64}}, "does not declare"),
        ({"data_sha256": "f" * 64}, "give other examples"),
        ({"pipeline": "other"}, "of the pipeline 'other'"),
        ({"features": None}, "not the manifest of a training"),
        ({"model": {"epochs": 1}}, "can't be declared by this version"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_can_not_be_made_again_is_refused(
    declared: Path, trained: list[dict[str, Any]], tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    manifest = json.loads(Path(trained[0]["manifest"]).read_bytes())
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps({**manifest, **change}))
    result = run(declared, "train", "--manifest", str(file))
    assert isinstance(result.exception, TrainingError)
    assert why in str(result.exception)


def test_a_log_that_ends_before_the_manifest_is_refused(
    declared: Path, trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    manifest = json.loads(Path(trained[0]["manifest"]).read_bytes())
    manifest["features"]["offsets"]["0"][1] = 10**9
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(manifest))
    result = run(declared, "train", "--manifest", str(file))
    assert "the model can't be made again from it" in str(result.exception)


def test_wrong_use_is_told(declared: Path, trained: list[dict[str, Any]], tmp_path: Path) -> None:
    both = run(declared, "train", "--manifest", trained[0]["manifest"], "--ranks", "2")
    assert isinstance(both.exception, ConfigurationError)
    missing = run(declared, "models", "show", "7")
    assert "registered are: 1, 2" in str(missing.exception)
    (tmp_path / "no.json").write_text("[]")
    no_manifest = run(declared, "train", "--manifest", str(tmp_path / "no.json"))
    assert "is not the manifest of a training" in str(no_manifest.exception)
