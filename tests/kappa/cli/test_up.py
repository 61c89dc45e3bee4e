"""``kappa up``, as a user runs it: a real supervisor over a real worker."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from rich.console import Console
from typer.testing import CliRunner

from infra.supervisor import EXIT_BROKER_AWAY, EXIT_USER_MUST_ACT, ProcessStatus
from kappa.cli.up import process_lines, process_table
from serving.health.lag import LagReader, inputs
from streams.kafka_client import producer
from streams.positions import PositionReader
from streams.topics import Topics, ensure_topics

ROOT = Path(__file__).resolve().parents[3]
STATUS = [
    ProcessStatus("features", 11, "running", 0),
    ProcessStatus("trainer", None, "waiting", 2),
]


@pytest.mark.broker
def test_it_runs_until_it_is_interrupted_and_leaves_nothing(bootstrap: str, tmp_path: Path) -> None:
    environment = {
        **os.environ, "KAFKA_BOOTSTRAP_SERVERS": bootstrap, "KAPPA_HOME": str(tmp_path),
    }  # fmt: skip
    command = [sys.executable, "-m", "kappa", "up", "-p", "examples.electricity"]
    with subprocess.Popen(
        [*command, "--role", "trainer"], cwd=ROOT, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            line = next(line for line in lines if line.startswith("trainer running"))
            worker = psutil.Process(int(line.split("pid=")[1].split()[0]))
            log = next(tmp_path.glob("pipelines/*/logs/trainer.log"))
            deadline = time.monotonic() + 60
            while "process starts" not in log.read_text():
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert "stopping" in errors
    assert not worker.is_running()


@pytest.mark.broker
def test_a_worker_that_no_restart_helps_ends_with_its_own_status(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from kappa.cli.main import app

    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path))
    for arguments, message in (
        (["cook"], "role 'cook': there is no such one; it is features, inference"),
        (["trainer", "-p", "no.such"], "-p no.such: no module of this name"),
    ):
        result = CliRunner().invoke(app, ["worker", *arguments])
        assert result.exit_code == EXIT_USER_MUST_ACT
        assert message in result.stderr


def test_a_worker_that_finds_no_broker_ends_with_a_status_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from kappa.cli.main import app

    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["worker", "trainer"])
    assert result.exit_code == EXIT_BROKER_AWAY
    assert "no Kafka answers at 127.0.0.1:9" in result.stderr


def test_the_table_and_the_lines_tell_state_and_lag() -> None:
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(process_table(STATUS, {"features": 12_345}))
    console.file.close()
    text = console.export_text()
    for part in ("features", "running", "11", "12,345", "trainer", "waiting", "2"):
        assert part in text
    assert process_lines(STATUS, {"features": 12_345}) == [
        "features running pid=11 restarts=0 lag=12,345",
        "trainer waiting pid=- restarts=2 lag=-",
    ]


@pytest.mark.broker
def test_lag_is_unknown_while_the_broker_does_not_answer(bootstrap: str) -> None:
    topics = Topics(f"t{uuid4().hex[:8]}")
    ensure_topics(bootstrap, topics.specs(4))
    client = producer(bootstrap)
    for partition in range(4):
        client.produce(topics.events, b"{}", partition=partition)
    assert client.flush(30) == 0
    addresses = iter(["127.0.0.1:1", bootstrap])
    reader = LagReader(bootstrap, topics, 4, connect=lambda _: PositionReader(next(addresses)))
    assert reader.read() == {}
    assert reader.read() == {**dict.fromkeys(inputs(topics, 4), 0), "features": 4}
    reader.close()
