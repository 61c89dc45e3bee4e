"""The benchmarks run, small: they print a table, and their figures as JSON on the last line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def run(name: str, *arguments: str) -> dict[str, Any]:
    result = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--json", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    report: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    assert {"figures", "goals", "goals_met"} <= set(report)
    return report


def test_features_beside_plain_faust() -> None:
    report = run("features", "--events", "100000", "--faust-events", "2000", "--peers", "faust")
    assert {"faust_per_core", "ours_live_per_core", "ours_replay_per_core"} <= set(
        report["figures"]
    )
    assert report["figures"]["live_times_plain_faust"] > 1


def test_inference() -> None:
    report = run("inference", "--events", "10000", "--peer-events", "0")
    assert {"network_per_core", "onnxruntime_batch_64_per_s"} <= set(report["figures"])


def test_replay() -> None:
    report = run("replay", "--events", "20000")
    assert report["figures"]
