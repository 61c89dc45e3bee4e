"""Watching a training: its lines and the machine, told once each, and never in its way."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from training.loop.launch import Check, EpochReport, go_on
from training.loop.progress import ProgressWriter
from training.tracking import live
from training.tracking.live import Figure, Watch, figures_of, watched
from training.tracking.system import NvmlGpus, SystemSampler


def test_a_line_as_figures() -> None:
    epoch = {"kind": "epoch", "epoch": 1, "steps": 20, "train_loss": 0.5, "validation_loss": 0.6}
    assert list(figures_of(epoch, 9)) == [
        Figure("steps", 20.0, 1, 9),
        Figure("train_loss", 0.5, 1, 9),
        Figure("validation_loss", 0.6, 1, 9),
    ]
    step = {"kind": "step", "epoch": 0, "steps": 5, "loss": 0.7, "learning_rate": 1e-3}
    assert list(figures_of(step, 9)) == [
        Figure("step/loss", 0.7, 5, 9),
        Figure("step/learning_rate", 1e-3, 5, 9),
    ]


def test_lines_are_told_while_the_run_goes_on(tmp_path: Path) -> None:
    told: list[Figure] = []
    came = threading.Event()

    def sink(figures: list[Figure]) -> None:
        told.extend(figures)
        came.set()

    watch = Watch(tmp_path, sink, look_s=0.01)
    watch.start()
    writer = ProgressWriter(tmp_path, 0)
    writer.write("step", {"epoch": 0, "steps": 1, "loss": 0.9})
    assert came.wait(10)
    writer.write("step", {"epoch": 0, "steps": 2, "loss": 0.8})
    watch.stop()  # takes what came last
    assert [(f.step, f.value) for f in told] == [(1, 0.9), (2, 0.8)]
    assert all(abs(f.time_ms - time.time() * 1000) < 60_000 for f in told)


def test_of_many_steps_the_newest_counts_and_of_epochs_all(tmp_path: Path) -> None:
    told: list[Figure] = []
    watch = Watch(tmp_path, told.extend, look_s=60)
    writer = ProgressWriter(tmp_path, 0)
    for step in range(1, 5):
        writer.write("step", {"epoch": 0, "steps": step, "loss": 1.0})
        writer.write("epoch", {"epoch": step - 1, "steps": step, "train_loss": 0.5})
    watch.start()
    watch.stop()
    assert [f.step for f in told if f.name == "step/loss"] == [4]
    assert [f.step for f in told if f.name == "train_loss"] == [0, 1, 2, 3]


def test_figures_come_more_rarely_as_a_run_ages() -> None:
    pace, began = live.Pace(1.0), time.monotonic()
    due = [s for s in range(86_400) if pace.is_due(began + 1 + s)]
    assert len([s for s in due if s < 300]) == 300
    assert len(due) < 2500
    assert due[-1] - due[-2] == pytest.approx(288, rel=0.02)


def test_the_machine_is_sampled_and_a_short_run_once(tmp_path: Path) -> None:
    told: list[Figure] = []
    watch = Watch(tmp_path, told.extend, lambda: SystemSampler(tmp_path), look_s=60)
    watch.start()
    watch.stop()
    figures = {f.name: f.value for f in told}
    assert len(figures) == len(told)
    assert figures["system/system_memory_usage_megabytes"] > 10
    assert figures["system/process_memory_megabytes"] > 10
    assert 0 < figures["system/disk_usage_percentage"] <= 100


def test_a_sink_that_hangs_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PATIENCE_S", 0.1)
    hanging, ran = threading.Event(), []

    def hang(_: list[Figure]) -> None:
        hanging.wait(60)

    def launch(folder: Path, ranks: int, on_epoch: EpochReport, check: Check = go_on) -> None:
        ran.append(ranks)

    watched(launch, lambda: hang, tmp_path)(tmp_path, 3, lambda _: None)
    assert ran == [3]
    hanging.set()


def test_a_look_that_fails_is_a_warning(tmp_path: Path) -> None:
    def broken() -> SystemSampler:
        raise OSError("no such counter")

    with capture_logs() as logs:
        watch = Watch(tmp_path, lambda _: None, broken, look_s=60)
        watch.start()
        watch.stop()
    assert [log["log_level"] for log in logs] == ["warning"]
    assert "no such counter" in logs[0]["why"]


def test_what_the_training_raises_goes_through(tmp_path: Path) -> None:
    def launch(folder: Path, ranks: int, on_epoch: EpochReport, check: Check = go_on) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watched(launch, lambda: None, tmp_path)(tmp_path, 1, lambda _: None)
    assert "watching" not in [thread.name for thread in threading.enumerate()]


def test_counters_are_of_the_run_alone(tmp_path: Path) -> None:
    sampler = SystemSampler(tmp_path)
    first, second = sampler.sample(), sampler.sample()
    counters = [name for name in first if "receive" in name or "write" in name]
    assert all(first[name] == 0 for name in counters)
    assert all(0 <= second[name] < 1e6 for name in counters)


def test_gpus_as_nvml_tells_of_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuses(_: object) -> None:
        raise RuntimeError("not supported")

    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(used=20e9, total=80e9),
        nvmlDeviceGetUtilizationRates=lambda _: SimpleNamespace(gpu=93),
        nvmlDeviceGetPowerUsage=refuses,
    )
    monkeypatch.setitem(__import__("sys").modules, "pynvml", nvml)
    figures = SystemSampler(tmp_path, NvmlGpus()).sample()
    assert {name: value for name, value in figures.items() if "gpu" in name} == {
        "system/gpu_0_memory_usage_megabytes": 20_000,
        "system/gpu_0_memory_usage_percentage": 25,
        "system/gpu_0_utilization_percentage": 93,
    }
