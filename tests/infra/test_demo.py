"""The whole pipeline, small: the command itself, real broker, all processes, twice."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.infra.tiny_pipeline import (
    BAD_RECORDS,
    DAYS,
    DRIFT_DAY,
    LABELS_WITHOUT_EVENT,
    PER_DAY,
    START_MS,
)

DAY_MS = 86_400_000
TINY = Path(__file__).with_name("tiny_pipeline.py")


pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(600)]


def started_demo(home: Path, *options: str) -> subprocess.Popen[str]:
    """Start the command; what it tells besides the summary goes to the file ``home/stderr``."""
    environment = {k: v for k, v in os.environ.items() if k != "KAFKA_BOOTSTRAP_SERVERS"}
    with (home / "stderr").open("w") as told:
        return subprocess.Popen(
            [sys.executable, "-m", "kappa", "demo", "-p", str(TINY), "--json", *options],
            env={**environment, "KAPPA_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
        )


def run_demo(home: Path) -> dict[str, Any]:
    with started_demo(home) as process:
        out, _ = process.communicate()
    assert process.returncode == 0, (home / "stderr").read_text()[-4000:]
    summary: dict[str, Any] = json.loads(out)
    return summary


def run_demo_with_page(home: Path) -> dict[str, Any]:
    """Run one that shows its page, ask the page for its flow at the end, and interrupt it."""
    told = home / "stderr"
    with started_demo(home, "--dashboard") as process:
        assert process.stdout is not None
        line = process.stdout.readline()  # the summary; the demo stays
        assert line, told.read_text()[-4000:]
        (page,) = re.findall(r"^dashboard: (http://127.0.0.1:\d+/)$", told.read_text(), re.M)
        overview = httpx.get(f"{page}api/overview", timeout=30).raise_for_status().json()
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0, told.read_text()[-4000:]
    summary: dict[str, Any] = json.loads(line)
    assert overview["pipeline"] == summary["pipeline"]
    return summary


@pytest.fixture(scope="module")
def summaries(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return those of a run alone, and of one beside which the page is served."""
    homes = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    return run_demo(homes[0]), run_demo_with_page(homes[1])


def test_every_event_is_answered_once_or_is_a_dead_letter(
    summaries: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    summary = summaries[0]
    assert summary["audit"]["ok"]
    assert summary["events"] == DAYS * PER_DAY + BAD_RECORDS
    assert summary["dead_letters"] == BAD_RECORDS
    assert summary["predictions"] == DAYS * PER_DAY
    assert summary["labels"] == DAYS * PER_DAY + LABELS_WITHOUT_EVENT


def test_the_drift_raises_an_alert_and_a_retraining(
    summaries: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    summary = summaries[0]
    first = min(alert["window"]["end_ms"] for alert in summary["alerts"])
    drift_ms = START_MS + DRIFT_DAY * DAY_MS
    # Two days to be out of bounds, and one more window to be confirmed.
    assert drift_ms < first <= drift_ms + 3 * DAY_MS
    assert any(alert["action"] == "retrain" for alert in summary["alerts"])
    assert len(summary["models"]) >= 2
    cutoffs = [model["manifest"]["cutoff_ms"] for model in summary["models"]]
    assert cutoffs == sorted(cutoffs)


def test_the_same_stream_gives_the_same_summary(
    summaries: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    one, two = ({k: v for k, v in s.items() if k != "seconds"} for s in summaries)
    assert one == two
