"""``kappa performance`` and ``kappa fairness``: the newest windows, with what was restated."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import msgspec
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from kappa.cli.fairness import fairness
from kappa.cli.performance import performance, performance_table
from serving.performance.reading import Row
from streams.kafka_client import producer
from streams.topics import Topics, ensure_topics
from streams.wire import Metric, Window
from tests.kappa.cli.test_alerts_audit import PIPELINE

pytestmark = pytest.mark.broker

DAY = 86_400_000
FIRST, SECOND = Window(0, 7 * DAY), Window(DAY, 8 * DAY)


def _figure(name: str, value: float, window: Window, group: str | None = None) -> Metric:
    return Metric(
        name, None, value, None, 1_000, window, 3, group=group, low=value - 0.01,
        high=value + 0.01, by="label",
    )  # fmt: skip


TOLD = (
    _figure("log_loss", 0.31, FIRST),
    _figure("log_loss", 0.32, SECOND),
    _figure("auc", 0.77, SECOND),
    _figure("log_loss", 0.44, SECOND, "user=guest"),
    Metric("psi", "hour", 0.1, 0.25, 1_000, SECOND, 3),
    Metric("brier", None, 0.11, None, 500, Window(0, DAY), 3),
    Metric("brier", None, 0.12, None, 600, Window(0, DAY), 3, restated=1),
    _figure("selection_rate", 0.25, SECOND, "user=guest"),
    _figure("selection_ratio", 0.5, SECOND, "user=guest"),
    _figure("selection_rate", 0.5, SECOND, "user=member"),
    _figure("true_positive_rate_difference", 0.07, SECOND, "user"),
    _figure("selection_rate", 0.9, FIRST, "user=member"),
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bootstrap: str) -> Callable[..., Result]:
    topics = Topics(f"t{uuid4().hex[:8]}")
    ensure_topics(bootstrap, topics.specs(1))
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    monkeypatch.setenv("COLUMNS", "240")
    declared = tmp_path / f"{topics.name}.py"
    declared.write_text(PIPELINE.replace("NAME", topics.name))
    app = typer.Typer()
    app.command("performance")(performance)
    app.command("fairness")(fairness)

    def invoke(command: str, *arguments: str, told: tuple[Metric, ...] = ()) -> Result:
        client = producer(bootstrap, linger_ms=0)
        for value in told:
            client.produce(topics.metrics, msgspec.json.encode(value), b"k", 0)
        assert client.flush(30) == 0
        return CliRunner().invoke(app, [command, "-p", str(declared), *arguments])

    return invoke


def _told(result: Result) -> list[tuple[str, float]]:
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return [(line["metric"], line["value"]) for line in lines]


def test_figures_come_by_window_and_what_was_restated_counts(run: Callable[..., Result]) -> None:
    by_label = run("performance", "--json", told=TOLD)
    assert _told(by_label) == [("log_loss", 0.31), ("log_loss", 0.32), ("auc", 0.77)]
    assert _told(run("performance", "--json", "-n", "1", "--groups")) == [
        ("log_loss", 0.32), ("auc", 0.77), ("log_loss", 0.44)
    ]  # fmt: skip
    assert _told(run("performance", "--json", "--group", "user=guest")) == [("log_loss", 0.44)]
    assert _told(run("performance", "--json", "--by", "event")) == [("brier", 0.12)]
    assert _told(run("performance", "--json", "--version", "4")) == []
    assert _told(run("fairness", "--json")) == [
        ("true_positive_rate_difference", 0.07), ("selection_rate", 0.25),
        ("selection_ratio", 0.5), ("selection_rate", 0.5),
    ]  # fmt: skip
    assert _told(run("fairness", "--json", "--field", "town")) == []


def test_tables_show_each_figure_with_its_interval(run: Callable[..., Result]) -> None:
    shown = run("performance", "--groups", told=TOLD).stdout
    assert "user=guest" in shown
    assert "0.3200" in shown
    assert "0.310 to 0.330" in shown
    fair = run("fairness").stdout
    assert "selection rate" in fair
    assert "0.240 to 0.260" in fair
    assert "Largest difference between groups" in fair
    restated = run("performance", "--by", "event").stdout
    assert "restated" in restated
    assert "1970-01-02 00:00" in restated
    assert "windows of 1 day;" in restated


def test_nothing_told_is_said(run: Callable[..., Result]) -> None:
    assert "has no such figures" in run("fairness").stdout


@pytest.mark.parametrize(
    ("width", "shown", "left_out"),
    [
        (80, ["log loss", "Brier"], "accuracy, AUC, AP, gap, ECE"),
        (60, ["log loss"], "Brier, accuracy, AUC, AP, gap, ECE"),
        (200, ["log loss", "Brier", "accuracy", "AUC", "AP", "gap", "ECE"], ""),
    ],
)
def test_a_table_shows_what_fits_whole_and_says_what_does_not(
    width: int, shown: list[str], left_out: str
) -> None:
    names = ("log_loss", "brier", "accuracy", "auc", "average_precision", "calibration_gap",
             "expected_calibration_error")  # fmt: skip
    row = Row(FIRST, 3, None, None, "label", {n: _figure(n, 0.4321, FIRST) for n in names})
    console = Console(width=width, record=True, file=StringIO())
    console.print(performance_table([row], "Performance", ZoneInfo("UTC"), width))

    text = console.export_text()
    assert "…" not in text
    assert all(name in text for name in ("until", "model", "1,000", *shown))
    assert text.count("0.422 to 0.442") == len(shown)
    assert ("not shown" in text) == bool(left_out)
    assert left_out in " ".join(text.split())
