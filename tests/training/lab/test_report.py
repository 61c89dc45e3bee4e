"""Reports: Markdown, figures and charts that are pictures."""

import json
from pathlib import Path

import numpy as np
import pytest

from streams.errors import ConfigurationError
from training.lab import charts
from training.lab.intervals import Interval
from training.lab.report import Chart, Report, Table, megabytes, milliseconds

PNG = b"\x89PNG\r\n\x1a\n"


def draw_lines(path: Path) -> None:
    charts.lines(path, "t", ("x", "y"), {"predicted": ([1, 2], [1, 2]), "seen": ([1, 2], [1, 1])})


def draw_bars(path: Path) -> None:
    charts.bars(path, "t", ("y", ["a", "b"]), {"one": ([0, 1], [1, 2]), "two": ([0, 1], [2, 1])})


def draw_timelines(path: Path) -> None:
    step = [Interval(0, 0, "forward", 0, 1), Interval(1, 0, "backward", 1, 3)]
    charts.timelines(path, "t", {"GPipe": step, "1F1B": step})


def draw_heat_map(path: Path) -> None:
    values = np.array([[0.1, np.nan], [0.3, 2.0]])
    charts.heat_map(path, "t", (["a", "b"], ["1", "2"]), values, values > 0.25, "PSI")


@pytest.mark.parametrize("draw", [draw_lines, draw_bars, draw_timelines, draw_heat_map])
def test_charts_are_pictures_and_the_same_figures_give_the_same_bytes(
    draw: charts.Draw, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    draw(first)
    draw(second)
    content = first.read_bytes()
    assert content.startswith(PNG)
    assert len(content) > 2000
    assert content == second.read_bytes()


def small_report() -> Report:
    return Report(
        title="What was found",
        facts={"device": "a CPU"},
        tables=[Table("Steps", ["kind", "ms"], [["a | b", "1.5"]])],
        remarks=["It is quick."],
        charts=[Chart("c.png", "A chart", draw_lines)],
        details=[Table("All", ["x"], [["1"]])],
        figures={"step_s": 0.0015},
    )


def test_a_report_is_written_with_its_charts_and_figures(tmp_path: Path) -> None:
    path = small_report().write(tmp_path / "new")
    text = path.read_text()
    assert text.startswith("# What was found\n\n- device: a CPU\n\n**Steps**\n\n| kind | ms |")
    assert "| a / b | 1.5 |" in text
    assert "![A chart](c.png)" in text
    assert (path.parent / "c.png").read_bytes().startswith(PNG)
    assert json.loads((path.parent / "figures.json").read_text()) == {"step_s": 0.0015}


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="can't be written"):
        small_report().write(tmp_path / "file" / "below")


def test_sizes_and_times_as_people_read_them() -> None:
    assert [megabytes(n) for n in (512, 5_944_424, 2.5e9)] == ["0.5 kB", "5.9 MB", "2.5 GB"]
    assert [milliseconds(s) for s in (0.0123, 1.5e-6, 0)] == ["12.3 ms", "1.5 µs", "0 µs"]
