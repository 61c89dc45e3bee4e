"""``kappa history`` from the command line's side: files, following, the end by Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pyarrow.parquet as pq
import pytest

from streams.topics import Topics, ensure_topics
from tests.features.history_log import FeatureLog
from tests.features.payments import DEFINITION, PARTITIONS
from tests.kappa.cli.test_replay import PIPELINE

pytestmark = [pytest.mark.broker, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[3]


def test_history_follows_the_features_until_it_is_told_to_end(
    bootstrap: str, tmp_path: Path
) -> None:
    name = f"t{uuid4().hex[:8]}"
    topics = Topics(name, DEFINITION.version)
    ensure_topics(bootstrap, topics.specs(PARTITIONS))
    log = FeatureLog(bootstrap, topics)
    log.grow(0, 120)
    pipeline = tmp_path / "cards.py"
    pipeline.write_text(PIPELINE.replace("NAME", name))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "KAPPA_HOME": str(tmp_path),
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
    }
    command = [
        sys.executable, "-W", "ignore", "-m", "kappa", "history", "-p", str(pipeline),
        "--definition", "v1", "--follow", "--every", "0.1",
    ]  # fmt: skip
    feast = tmp_path / "pipelines" / name / "feast"
    folder = feast / "history" / "features_v1"
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: rows(folder) == 120, process)
        log.grow(120, 60)
        wait_until(lambda: rows(folder) == 180, process)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    assert printed.startswith("180 rows written to ")
    assert str(folder) in printed
    assert (feast / "registry.db").exists()


def rows(folder: Path) -> int:
    return sum(pq.read_metadata(path).num_rows for path in folder.glob("*.parquet"))


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "not reached in 120 s"
        time.sleep(0.05)
