"""What ``kappa doctor`` finds."""

import json
import shutil
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from infra import doctor
from infra.doctor import Check
from kappa.cli.main import app
from kappa.loading import load_pipeline
from streams.settings import Settings
from streams.topics import TopicSpec, ensure_topics, missing_topics


@pytest.mark.parametrize(
    ("version", "state"),
    [((3, 10, 9), "missing"), ((3, 11, 0), "ok"), ((3, 12, 4), "ok"), ((3, 13, 0), "missing")],
)
def test_python_versions(version: tuple[int, int, int], state: str) -> None:
    check = doctor.python_check(version)
    assert check.state == state
    assert bool(check.remedy) == (state == "missing")


def test_the_java_of_the_wheel_starts() -> None:
    check = doctor.java_check()
    assert check.state == "ok"
    assert "openjdk version" in check.found


def test_jars_are_missing_only_where_they_are_neither_here_nor_reachable(tmp_path: Path) -> None:
    def state(here: bool, reachable: bool) -> str:
        return doctor.jars_check(tmp_path, lambda: here, lambda _: reachable).state

    assert [state(True, False), state(False, True), state(False, False)] == ["ok", "ok", "missing"]


@pytest.mark.parametrize(
    ("free", "state"), [(100_000_000, "missing"), (300_000_000, "warning"), (9_000_000_000, "ok")]
)
def test_disk_space_is_judged_where_the_state_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    asked: list[Path] = []

    def usage(folder: Path) -> SimpleNamespace:
        asked.append(folder)
        return SimpleNamespace(free=free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    check = doctor.disk_check(tmp_path / "not" / "there")
    assert (check.state, asked) == (state, [tmp_path])
    assert ("KAPPA_HOME" in check.remedy) == (state != "ok")


def test_little_memory_is_a_warning() -> None:
    assert doctor.memory_check(1_000_000_000).state == "warning"
    assert doctor.memory_check(8_000_000_000).state == "ok"


def test_a_configured_broker_that_is_not_there_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TIMEOUT_S", 0.5)
    settings = Settings(home=Path("unused")).model_copy(update={"bootstrap_servers": "127.0.0.1:9"})
    check, address = doctor.broker_check(settings)
    assert (check.state, address) == ("missing", None)
    assert "KAFKA_BOOTSTRAP_SERVERS" in check.remedy


@pytest.mark.broker
def test_topics_are_compared_and_never_made(bootstrap: str) -> None:
    declared = load_pipeline("examples.citibike")
    pipeline = SimpleNamespace(name=f"t{uuid.uuid4().hex[:8]}")
    pipeline.topic_specs = [
        TopicSpec(f"{pipeline.name}.{spec.name}", spec.partitions, spec.config)
        for spec in declared.topic_specs
    ]
    check = doctor.topics_check(bootstrap, pipeline)  # type: ignore[arg-type]
    declared_topics = len(declared.topic_specs)
    assert check == Check(
        "Topics", "ok", f"{declared_topics} of {pipeline.name} are made at its start"
    )
    assert len(missing_topics(bootstrap, pipeline.topic_specs)) == declared_topics
    first = pipeline.topic_specs[0]
    ensure_topics(bootstrap, [TopicSpec(first.name, first.partitions + 1, first.config)])
    check = doctor.topics_check(bootstrap, pipeline)  # type: ignore[arg-type]
    assert check.state == "missing"
    assert f"{first.name} has {first.partitions + 1} partitions" in check.remedy


@pytest.mark.parametrize(("pipeline", "status"), [("examples.citibike", 0), ("no.such.module", 1)])
def test_the_command_prints_json_and_its_status_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipeline: str, status: int
) -> None:
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path))
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    result = CliRunner().invoke(app, ["doctor", "--json", "-p", pipeline])
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["ok"]) == (status, status == 0)
    states = {check["name"]: check["state"] for check in answer["checks"]}
    assert states["Pipeline"] == ("ok" if status == 0 else "missing")
    assert {"Python", "Java", "Disk", "Memory", "Broker", "PyTorch"} <= states.keys()
    assert list(tmp_path.iterdir()) == []
