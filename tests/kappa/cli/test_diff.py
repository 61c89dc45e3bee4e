"""``kappa diff`` from the command line's side."""

import json
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
import typer
from typer.testing import CliRunner, Result

from kappa.cli.diff import diff
from kappa.cli.replay import replay
from streams.topics import Topics, ensure_topics
from tests.features.payments import PARTITIONS, payments, send

pytestmark = [
    pytest.mark.broker,
    # kafka-python 3 leaves the self-pipe of a closed administration client to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PIPELINE = """
from msgspec import Struct
from kappa import Count, Definition, Equals, LabelStream, Number, Pipeline, Value
from tests.features.payments import PAYMENTS

class Label(Struct):
    payment: str
    card: str
    known_ms: int
    fraud: bool

amount, more = Number(Value("amount")), Number(Value("amount") + 1)
pipeline = Pipeline(
    name="NAME",
    events=PAYMENTS,
    labels=LabelStream(
        Label, id="payment", entity="card", event_time="known_ms", target=Equals("fraud", True)
    ),
    features=(
        Definition(1, {"amount": amount, "n": Count("5m", "1m"), "old": amount}),
        Definition(2, {"amount": more, "n": Count("5m", "1m")}),
        Definition(3, {"amount": amount, "n": Count("5m", "1m"), "old": amount}),
    ),
)
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bootstrap: str) -> Callable[..., Result]:
    """Three built versions of 1,000 events."""
    topics = Topics(f"t{uuid4().hex[:8]}")
    ensure_topics(bootstrap, topics.specs(PARTITIONS))
    send(bootstrap, topics, payments(0, 1000, bad=False))
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    monkeypatch.setenv("COLUMNS", "200")
    declared = tmp_path / f"{topics.name}.py"
    declared.write_text(PIPELINE.replace("NAME", topics.name))
    app = typer.Typer()
    for command in (replay, diff):
        app.command()(command)

    def invoke(command: str, *arguments: str) -> Result:
        return CliRunner().invoke(app, [command, "-p", str(declared), *arguments])

    for version in ("v1", "v2", "v3"):
        told = invoke("replay", "--no-online", "--definition", version)
        assert told.exit_code == 0, told.output
    return invoke


def test_differences_are_told_and_are_no_error(run: Callable[..., Result]) -> None:
    told = run("diff", "v1", "v2", "--sample", "2")
    assert told.exit_code == 0, told.output
    assert "only in v1: old" in told.stdout
    assert "1,000 events in both, 0 of them equal bit for bit" in told.stdout
    report = json.loads(run("diff", "v1", "v2", "--sample", "2", "--json").stdout)
    amount, n = report["features"]
    assert (amount["differing"], n["differing"]) == (1000, 0)
    assert amount["mean_absolute"] == pytest.approx(1.0)
    assert (report["rows"], len(report["sample"]), report["equal"]) == (1000, 2, False)
    shown = report["sample"][0]["features"]["amount"]
    assert shown[1] == pytest.approx(shown[0] + 1)
    assert f"amount {shown[0]} → {shown[1]}" in told.stdout


def test_equality_can_be_asked_for(run: Callable[..., Result]) -> None:
    assert run("diff", "1", "3", "--expect-equal").exit_code == 0
    assert run("diff", "1", "2", "--expect-equal").exit_code == 1
    report = json.loads(run("diff", "v1", "v3", "--from", "10", "--to", "20", "--json").stdout)
    assert report["equal"]
    assert report["rows"] == 40  # of four partitions
    unknown = run("diff", "v1", "v9")
    assert "declares no definition v9" in str(unknown.exception)
