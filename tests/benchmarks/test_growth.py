"""The benchmark of growth: what it feeds the engine, how it judges, and that it runs, small."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks import growth, payments

ROOT = Path(__file__).resolve().parents[2]


def test_flatness_is_the_slowest_by_the_quickest() -> None:
    assert growth.flatness({"a": 80.0, "b": 100.0, "c": 1.0}, ["a", "b"]) == 0.8


def test_payments_are_valid_and_go_on_in_time() -> None:
    cards = np.array([3, 12, 3])
    keys, values, times = payments.values(5, cards, step_ms=20, width=7, begins_ms=1_000)
    assert keys == [b"c0000003", b"c0000012", b"c0000003"]
    made = [msgspec.json.decode(value, type=payments.Payment) for value in values]
    assert [p.event_id for p in made] == ["e000000005", "e000000006", "e000000007"]
    assert [p.card.encode() for p in made] == keys
    assert [p.ts for p in made] == times
    assert times == sorted(times)
    assert 1_000 <= times[0] < 1_020


@pytest.mark.slow
def test_the_engine_is_measured_over_entities_and_days() -> None:
    arguments = ["--events", "10000", "--entities", "1000", "5000", "--events-a-day", "2000"]
    ended = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "growth.py"), "--json", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    figures = json.loads(ended.stdout.splitlines()[-1])["figures"]
    assert figures["engine_1000_entities"] > 0
    assert figures["engine_days_21_to_30"] > 0
    assert 0 < figures["days_flat"] <= 1
