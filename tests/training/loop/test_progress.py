"""progress.jsonl: written by the ranks, followed by who waits for them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.training.learnable import write
from training.loop import pace
from training.loop.pace import Pace
from training.loop.progress import ProgressReader, ProgressWriter
from training.loop.rank import main


def test_a_run_tells_its_steps_and_epochs(tmp_path: Path) -> None:
    job = write(tmp_path, n_train=2000, batch=100, epochs=2)
    reader = ProgressReader(tmp_path)
    assert reader.lines() == []
    main(tmp_path / "job.json")
    lines = reader.lines()
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert [(line["epoch"], line["steps"]) for line in epochs] == [(0, 20), (1, 40)]
    assert all(0 <= line["waited_s"] <= line["seconds"] for line in epochs)
    step = next(line for line in lines if line["kind"] == "step")
    assert step["steps"] == 1
    assert 0.3 < step["loss"] < 2
    assert step["learning_rate"] == pytest.approx(job.learning_rate * 0.04)
    assert step["examples_per_s"] > 0
    assert step["gradient_norm"] > 0
    assert reader.lines() == []


def test_a_run_that_resumes_tells_nothing_twice(tmp_path: Path) -> None:
    reader, told = ProgressReader(tmp_path), []
    writer = ProgressWriter(tmp_path, 0)
    for steps in (10, 20, 30):
        writer.write("step", {"steps": steps, "life": 1})
        told += reader.lines()
    writer.write("epoch", {"epoch": 0, "steps": 30})
    with (tmp_path / "progress.jsonl").open("ab") as file:
        file.write(b'{"kind": "step", "steps": 4')  # torn
    told += reader.lines()
    resumed = ProgressWriter(tmp_path, 20)
    resumed.write("step", {"steps": 25, "life": 2})
    resumed.write("step", {"steps": 35, "life": 2})
    resumed.write("epoch", {"epoch": 0, "steps": 30})
    resumed.write("epoch", {"epoch": 1, "steps": 60})
    told += reader.lines()
    assert [(line["kind"], line["steps"]) for line in told] == [
        ("step", 10), ("step", 20), ("step", 30), ("epoch", 30), ("step", 35), ("epoch", 60),
    ]  # fmt: skip
    kept = [(line["kind"], line["steps"]) for line in ProgressReader(tmp_path).lines()]
    assert kept[:3] == [("step", 10), ("step", 20), ("step", 25)]


def due_after(job: Any, seconds_per_step: float, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: clock.now))
    place: Any = SimpleNamespace(rank=0, sum_over_ranks=lambda *values: list(values))
    when, due = Pace(job, place, 0), []
    for steps in range(1, 2001):
        clock.now += seconds_per_step
        if when.due(steps):
            due.append(steps)
    return due


def test_seconds_between_checkpoints_become_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    job = SimpleNamespace(checkpoint_steps=None, checkpoint_s=60.0)
    due = due_after(job, 0.125, monkeypatch)
    assert due == [20 + 480 * k for k in (1, 2, 3, 4)]
    assert due_after(SimpleNamespace(checkpoint_steps=None, checkpoint_s=0.0), 1, monkeypatch) == []
    every = SimpleNamespace(checkpoint_steps=700, checkpoint_s=60.0)
    assert due_after(every, 1, monkeypatch) == [700, 1400]
