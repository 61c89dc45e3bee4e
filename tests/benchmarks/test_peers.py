"""How the benchmark of features treats its peers: rates, skips with a reason, comparisons."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import environments, features
from benchmarks.environments import Peer
from benchmarks.peers import flink
from benchmarks.peers.outcome import PeerSkippedError
from benchmarks.report import report

ROOT = Path(__file__).resolve().parents[2]


def quiet(_: str) -> None:
    """Take progress."""


def job(cpu_s: float, wall_s: float) -> str:
    return json.dumps({"cpu_s": cpu_s, "wall_s": wall_s})


def test_flinks_warm_jobs_are_told_without_what_a_job_costs() -> None:
    lines = ["a warning", job(50, 40), job(13, 12), job(12, 11), job(7, 6), job(2, 1)]
    rates = flink.rates(lines, events=1_000)
    assert rates["cold"] == (1_000 / 50, 1_000 / 40)
    assert rates["warm"] == (1_000 / 10, 1_000 / 10)
    assert rates["blackhole"] == (1_000 / 5, 1_000 / 5)


def test_a_flink_that_ended_early_is_skipped_with_its_error() -> None:
    lines = [job(50, 40), "Caused by: java.lang.OutOfMemoryError", "\tat somewhere"]
    with pytest.raises(PeerSkippedError, match=r"only 1 of 5 jobs ended: .*OutOfMemoryError"):
        flink.rates(lines, events=1_000)


def test_flinks_script_runs_each_kind_of_job_in_order() -> None:
    statements = flink.script("over", "127.0.0.1:1", "pay", "none", "out").split("\n---\n")
    inserts = [s.split()[2] for s in statements if s.startswith("INSERT")]
    assert inserts == ["kafka", "kafka", "kafka", "blackhole", "kafka"]
    assert "FROM nothing" in statements[-1]
    assert all("FROM payments" in s for s in statements[4:-1])


def test_without_a_jdk_flink_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PeerSkippedError, match="needs java and javac"):
        flink.prepare(tmp_path, quiet)


def test_a_peer_without_uv_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PeerSkippedError, match="uv is not on PATH"):
        environments.interpreter(Peer("quix", ("quixstreams==0",)), tmp_path, quiet)


def test_a_peer_that_fails_is_skipped_with_its_last_words(tmp_path: Path) -> None:
    peer = Peer("no_such_peer")
    python = environments.interpreter(peer, tmp_path, quiet)
    assert python == sys.executable
    with pytest.raises(PeerSkippedError, match=r"ended with 1: .*no_such_peer"):
        environments.measure(peer, python, "127.0.0.1:1", "pay", 10, 1, tmp_path)


def test_the_meter_counts_after_the_warm_up_and_ends_the_process() -> None:
    code = """
from benchmarks.peers.meter import Meter
meter = Meter(100, 40, ("msgspec",), counts_per_event=2)
while True:
    meter.add()
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    told = json.loads(ended.stdout)
    assert told["events"] == 60
    assert 0 < told["cpu_s"] < 10
    assert list(told["versions"]) == ["msgspec"]


def test_ours_is_compared_with_the_best_of_its_peers() -> None:
    figures: dict[str, float] = {
        "ours_replay_per_core": 300.0, "ours_recompute_per_core": 400.0,
        "ours_live_per_core": 120.0,
        "quix_per_core": 10.0, "bytewax_per_core": 20.0,
        "flink_hop_warm_per_core": 60.0, "flink_over_blackhole_per_core": 100.0,
    }  # fmt: skip
    features.compare(figures)
    assert figures["replay_times_best_python_peer"] == 15
    assert figures["recompute_times_flink_to_nowhere"] == 4
    assert figures["replay_times_flink"] == 5
    assert figures["live_times_flink"] == 2


def test_a_goal_that_was_not_measured_is_not_met(capsys: pytest.CaptureFixture[str]) -> None:
    report("Title", {"a": 5.0}, {"a": 5.0, "b": 1.0}, (), True, {"flink": "no Java"})
    printed = capsys.readouterr().out
    told = json.loads(printed.splitlines()[-1])
    assert not told["goals_met"]
    assert told["skipped"] == {"flink": "no Java"}
    assert "not measured" in printed
    assert "skipped: no Java" in printed
