"""The command itself: quick to answer, errors in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def kappa(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kappa", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_needs_none_of_the_slow_libraries() -> None:
    code = (
        "import sys, kappa.cli\n"
        "slow = {'torch', 'faust', 'feast', 'mlflow', 'pandas', 'numba', 'scipy', 'kafka',\n"
        "        'pyarrow', 'confluent_kafka'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_help_names_every_command() -> None:
    shown = kappa("--help").stdout
    for command in ("demo", "up", "produce", "train", "replay", "predictions", "alerts", "audit"):
        assert f" {command} " in shown


@pytest.mark.parametrize("command", ["audit", "alerts", "predictions", "train", "replay"])
def test_a_broker_that_is_not_there_is_told_in_one_line(command: str, tmp_path: Path) -> None:
    result = kappa(command, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1", KAPPA_HOME=str(tmp_path))
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: no Kafka answers at 127.0.0.1:1 (")
    assert "KAFKA_BOOTSTRAP_SERVERS" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_pipeline_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    result = kappa("audit", "-p", "no.such.module", KAPPA_HOME=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.startswith("error: -p no.such.module: no module of this name")


def test_a_file_without_a_pipeline_is_told(tmp_path: Path) -> None:
    empty = tmp_path / "empty.py"
    empty.write_text("answer = 42\n")
    result = kappa("audit", "-p", str(empty), KAPPA_HOME=str(tmp_path))
    assert result.returncode == 1
    assert "0 pipelines in" in result.stderr


def test_a_file_to_play_that_is_not_there_is_told(tmp_path: Path) -> None:
    result = kappa("demo", "--events", str(tmp_path / "gone.zip"), KAPPA_HOME=str(tmp_path))
    assert result.returncode == 1
    assert "gone.zip" in result.stderr.splitlines()[-1]
