"""The exercises themselves, on ranks of this machine, in sizes that take a moment."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streams.errors import TrainingError
from training.communication import bubble
from training.lab import amp, ddp, pipeline
from training.lab.launch import run
from training.lab.report import Report
from training.lab.workload import network, resnet50
from training.networks.declared import Transformer
from training.networks.shape import Shape

PNG = b"\x89PNG\r\n\x1a\n"
TINY = resnet50(width=4, image=32, classes=10)


def written(report: Report, folder: Path) -> str:
    """Write a report and look at its charts; return its text."""
    path = report.write(folder)
    assert report.charts
    for chart in report.charts:
        assert (folder / chart.file).read_bytes().startswith(PNG)
    assert json.loads((folder / "figures.json").read_text())["rows"]
    return path.read_text()


@pytest.mark.slow
def test_ddp_measures_each_number_of_ranks_beside_what_is_predicted(tmp_path: Path) -> None:
    settings = ddp.Ddp(TINY, "a tiny ResNet", ranks=2, batch=4, steps=1, rounds=3, accumulate=2)
    figures = ddp.measure(settings)
    one, two = figures["rows"]
    assert (one["ranks"], one["speed_up"]) == (1, 1.0)
    assert 0.05 < two["speed_up"] < 4  # of a busy machine; it is measured, not what it is
    assert two["examples_per_s"] == pytest.approx(2 * 4 / two["step_s"])
    assert two["predicted"] == pytest.approx(2 / (1 + two["ratio"]))
    assert two["all_reduce_s"] == pytest.approx(
        sorted(figures["seconds"]["2"]["reduce"])[1], rel=1e-6
    )
    assert two["predicted_ring"] <= two["predicted_bound"] <= 2
    assert one["mfu"] is None
    text = written(ddp.report(settings, figures), tmp_path)
    assert "gloo, one thread per rank" in text
    assert "| 2 |" in text


@pytest.mark.slow
def test_amp_compares_precisions_that_learn_alike(tmp_path: Path) -> None:
    settings = amp.Amp(TINY, "a tiny ResNet", batch=4, curve=4, steps=1, rounds=2)
    figures = amp.measure(settings)
    rows = {row["precision"]: row for row in figures["rows"]}
    assert rows["float32"]["faster"] == 1.0
    assert rows["bfloat16"]["memory_share"] < 0.95
    assert 0 < rows["bfloat16"]["loss_gap"] < 0.1  # the same learning, other bits
    assert len(figures["precisions"]["bfloat16"]["losses"]) == 4
    assert "AMP, bf16" in written(amp.report(settings, figures), tmp_path)


@pytest.mark.slow
def test_pipeline_measures_both_schedules(tmp_path: Path) -> None:
    shape = Shape(3, (5,), Transformer(last=4, width=8, layers=4, heads=2))
    settings = pipeline.PipelineLab(network(shape), "tiny", 2, (2, 6), rows=2, rounds=2)
    figures = pipeline.measure(settings)
    rows = {(row["schedule"], row["microbatches"]): row for row in figures["rows"]}
    assert rows["gpipe", 6]["in_flight"] == [6, 6]
    assert rows["1f1b", 6]["in_flight"] == [2, 1]
    assert rows["gpipe", 6]["saved_bytes"] > 2 * rows["1f1b", 6]["saved_bytes"]
    assert rows["1f1b", 2]["predicted_bubble"] == bubble(2, 2) == pytest.approx(1 / 3)
    for row in rows.values():
        assert 0 < row["schedule_bubble"] < 1
        assert row["least_bubble"] <= row["bubble"] < 1
    drawn = pipeline.timelines(figures)
    assert [len(step) for step in drawn.values()] == [2 * 2 * 6] * 2
    assert "1F1B, 6" in written(pipeline.report(settings, figures), tmp_path)


def test_ranks_that_fail_are_told_with_the_end_of_their_log() -> None:
    with pytest.raises(TrainingError, match=r"(?s)ranks of json.tool failed .*unrecognized"):
        run("json.tool", {}, 2)


def test_the_lab_imports_with_torch_and_numpy_alone() -> None:
    """What runs on GPU machines needs nothing else that the project depends on."""
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in {'pyarrow', 'pandas', 'msgspec', 'scipy', 'numba',\n"
        "            'feast', 'mlflow', 'confluent_kafka', 'typer', 'rich', 'matplotlib',\n"
        "            'pydantic', 'structlog', 'safetensors', 'optuna'}:\n"
        "            raise ImportError('not on this machine: ' + name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import training.lab.ddp, training.lab.amp, training.lab.pipeline\n"
        "import training.lab.scaling, training.lab.precisions, training.lab.stages\n"
        "import training.lab.counting\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_sizes_are_small_on_a_cpu_and_the_lessons_in_full() -> None:
    small: list[Any] = [ddp.ddp(False, 2), amp.amp(False), pipeline.pipeline(False, 1)]
    assert all("small size" in settings.name for settings in small)
    assert small[2].stages == 2
    assert ddp.ddp(True, 6).counts == [1, 2, 4, 6]
    assert ddp.ddp(True, 8).workload == resnet50(64, 224, 1000)
    assert pipeline.pipeline(True, 4).microbatches == (4, 8, 16, 32)
