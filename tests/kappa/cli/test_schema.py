"""``kappa schema``, and the check at the start, from the command line's side."""

import json
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
import typer
from typer.testing import CliRunner, Result

from kappa.cli.produce import produce
from kappa.cli.schema import schema
from streams.errors import DefinitionError

pytestmark = pytest.mark.broker

PIPELINE = """
from msgspec import Struct
from kappa import Count, Definition, EventStream, LabelStream, Pipeline, Value

class Event(Struct):
    id: str
    user: str
    at_ms: int
    AMOUNT

class Label(Struct):
    id: str
    user: str
    known_ms: int
    bad: bool

pipeline = Pipeline(
    name="NAME",
    events=EventStream(Event, id="id", entity="user", event_time="at_ms", partitions=2),
    labels=LabelStream(Label, id="id", entity="user", event_time="known_ms", target=Value("bad")),
    features=Definition(version=1, features={"n": Count(over="1h", tile="5m")}),
)
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bootstrap: str) -> Callable[..., Result]:
    """Return what runs a command on a pipeline whose events have the amount as declared."""
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    monkeypatch.setenv("COLUMNS", "200")
    name = f"t{uuid4().hex[:8]}"

    def invoke(command: Callable[..., None], amount: str, *arguments: str) -> Result:
        file = tmp_path / f"pipe_{uuid4().hex[:8]}.py"  # a module is read once
        file.write_text(PIPELINE.replace("NAME", name).replace("AMOUNT", amount))
        app = typer.Typer()
        app.command()(command)
        return CliRunner().invoke(app, [*arguments, "-p", str(file)])

    return invoke


def test_a_type_is_checked_before_it_is_used(run: Callable[..., Result], tmp_path: Path) -> None:
    events = tmp_path / "events.csv"
    events.write_text("id,user,at_ms,amount\n1,u,1700000000000,5\n")
    assert run(produce, "amount: int", str(events)).exit_code == 0

    fits = run(schema, "amount: float", "--check")
    assert fits.exit_code == 0
    assert "fits what its log was written with" in fits.output
    assert "integer" in fits.output

    broken = run(schema, "amount: str", "--check", "--json")
    assert broken.exit_code == 1
    report = json.loads(broken.output)
    (difference,) = report["differences"]
    assert (report["ok"], difference["field"]) == (False, "amount")
    assert (difference["was"], difference["now"]) == ("integer", "string")

    refused = run(produce, "amount: str", str(events))
    assert isinstance(refused.exception, DefinitionError)
    assert "amount: was integer, is string" in str(refused.exception)
    assert run(produce, "amount: float", str(events)).exit_code == 0
    assert run(schema, "amount: float", "--check", "--json").output.strip() == (
        '{"ok": true, "differences": []}'
    )


def test_without_an_option_it_prints_the_topics(run: Callable[..., Result]) -> None:
    printed = run(schema, "amount: int")
    assert json.loads(printed.output)["asyncapi"] == "3.0.0"
