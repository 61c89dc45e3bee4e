"""``kappa drift report`` over a real log: what has moved is named, and the page needs nobody."""

import json
import sys
from collections.abc import Callable
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner, Result

from kappa.cli.drift import drift
from serving.drift_report.reading import sample
from serving.pipeline import Pipeline
from streams.control import ControlFollower, ControlWriter, decode_model_events
from streams.errors import ConfigurationError
from streams.wire import Registered, StageChanged
from tests.serving.monitored import DAY, DEFINITION, EVENTS, LABELS, START
from tests.serving.monitored_log import MonitoredLog

pytestmark = pytest.mark.broker

PIPELINE = """
from kappa import DataDrift, Model, Pipeline
from tests.serving.monitored import DEFINITION, EVENTS, LABELS

pipeline = Pipeline(
    name="NAME", events=EVENTS, labels=LABELS, features=DEFINITION,
    monitors=(DataDrift(window="2d"),),
)
"""
EVENTS_A_DAY = 600


@pytest.fixture(scope="module")
def log(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> MonitoredLog:
    """Two days like training's, and two that are not; model 2 answers badly by then."""
    made = MonitoredLog.new(bootstrap)
    rows = [
        piece
        for day in range(4)
        for piece in made.add_day(START + day * DAY, EVENTS_A_DAY, version=1, score=0.5, long=0.5)
    ]
    made.put_live(2, rows[:4], tmp_path_factory.mktemp("packages"))
    put_live_trained(made, 1)
    for day in (4, 5):
        made.add_day(
            START + day * DAY, EVENTS_A_DAY, distance=0.4, version=1, score=0.5, long=0.9,
            labels=True,
        )  # fmt: skip
    return made


def put_live_trained(log: MonitoredLog, version: int) -> None:
    """Put a version live that is like the one before, and says of which time it is."""
    with closing(ControlFollower(log.bootstrap, log.topics.models)) as follower:
        events = decode_model_events(follower.catch_up())
    (before,) = (event for event in events if isinstance(event, Registered))
    manifest = {"since_ms": START, "cutoff_ms": START + 4 * DAY}
    writer = ControlWriter(log.bootstrap)
    for event in (
        replace(before, version=version, manifest=manifest, command_id="trained"),
        StageChanged(version=version, stage="live", reason="test"),
    ):
        writer.append_model_event(log.topics.models, event)


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bootstrap: str, log: MonitoredLog
) -> Callable[..., Result]:
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    declared = tmp_path / f"{log.topics.name}.py"
    declared.write_text(PIPELINE.replace("NAME", log.topics.name))

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(drift, ["report", "-p", str(declared), *arguments])

    return invoke


def figures(result: Result) -> dict[str, dict[str, object]]:
    assert result.exit_code == 0, result.output
    found: dict[str, dict[str, object]] = json.loads(result.stdout)
    return found


def test_the_last_window_is_reported_with_what_moved_first(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    found = figures(run("--json", "--out", str(out)))
    assert found["window"]["end_ms"] == found["window"]["start_ms"] + 2 * DAY  # type: ignore[operator]
    first, second = found["features"]
    assert (first["feature"], first["verdict"]) == ("distance", "major")  # type: ignore[index]
    assert (second["feature"], second["verdict"]) == ("kind", "none")  # type: ignore[index]
    assert abs(found["performance"]["mean_label"] - 0.9) < 0.05  # type: ignore[operator]
    assert found["validation"]["log_loss"] == 0.69
    checker = PageChecker()
    checker.feed(out.read_text())
    assert checker.pictures
    assert all(checker.pictures)  # each has a text of its own
    assert checker.outside == []
    assert "distance" in out.read_text()


def test_a_window_that_is_as_training_was_shows_nothing(run: Callable[..., Result]) -> None:
    found = figures(run("--json", "--from", "2020-01-03", "--to", "2020-01-05T00:00"))
    assert found["window"]["start_ms"] == START + 2 * DAY
    assert found["window"]["n"] == 2 * EVENTS_A_DAY
    assert {f["verdict"] for f in found["features"]} == {"none"}  # type: ignore[index]


def test_the_table_names_the_file(run: Callable[..., Result], tmp_path: Path) -> None:
    shown = run().stdout
    assert "distance" in shown
    assert "major" in shown
    (written,) = (tmp_path / "home").rglob("drift-model1-*.html")
    assert written.name in shown.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--version", "7"), "there is no model 7"),
        (("--from", "yesterday"), "--from 'yesterday'"),
        (("--from", "2020-01-05", "--to", "2020-01-04"), "the window is empty"),
        (("--from", "2021-01-05", "--to", "2021-01-06"), "holds no events"),
        (("--multivariate", "--version", "2"), "of which time its reference is"),
        (
            ("--multivariate", "--from", "2020-01-03T00:00", "--to", "2020-01-03T00:05"),
            "too few for a classifier",
        ),
    ],
    ids=["version", "time", "order", "nothing", "manifest", "few"],
)
def test_what_cannot_be_reported_is_said(
    arguments: tuple[str, ...], why: str, run: Callable[..., Result]
) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, ConfigurationError)
    assert why in str(result.exception)


def test_without_evidently_it_is_said_before_anything_is_read(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "evidently", None)
    result = run("--with", "evidently")
    assert isinstance(result.exception, ConfigurationError)
    assert "kappa-ml[report]" in str(result.exception)
    assert not list((tmp_path / "home").rglob("*.html"))


def test_all_features_together_are_asked_of_the_rows_of_both_sides(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    found = figures(run("--json", "--multivariate", "--out", str(out)))["multivariate"]
    assert found["low"] > 0.6  # type: ignore[operator]
    assert (found["n_reference"], found["n"]) == (4 * EVENTS_A_DAY, 2 * EVENTS_A_DAY)
    assert found["features"][0]["feature"] == "distance"  # type: ignore[index]
    assert "All features together" in out.read_text()
    as_usual = figures(
        run("--json", "--multivariate", "--from", "2020-01-03", "--to", "2020-01-05")
    )
    assert as_usual["multivariate"]["low"] < 0.55  # type: ignore[operator]
    assert "all features together: area" in run("--multivariate").stdout


def test_of_a_long_log_rows_are_taken_evenly(
    bootstrap: str, log: MonitoredLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline(log.topics.name, EVENTS, LABELS, DEFINITION)
    taken: list[np.ndarray] = []
    for most in (10 * EVENTS_A_DAY, 150):
        monkeypatch.setattr("serving.drift_report.reading.SAMPLE", most)
        rows = sample(bootstrap, pipeline, DEFINITION, START, START + 4 * DAY)
        assert [len(column) for column in rows.categories] == [len(rows)]
        taken.append(rows.numeric[:, 0])
    every, few = taken
    assert len(every) == 4 * EVENTS_A_DAY
    assert 75 < len(few) <= 150
    assert few.tolist() == every[:: len(every) // len(few)].tolist()


class PageChecker(HTMLParser):
    """Collects what pictures say, and what would be fetched from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        if tag == "svg":
            self.pictures.append(named.get("aria-label", ""))
        for name in ("src", "href"):
            if name in named and not named[name].startswith("#"):
                self.outside.append(named[name])
        if tag in ("script", "link", "img", "iframe"):
            self.outside.append(tag)
