"""``kappa alerts`` and ``kappa audit`` from the command line's side."""

import json
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
import typer
from typer.testing import CliRunner, Result

from kappa.cli.alerts import alerts
from kappa.cli.audit import audit
from streams.group_offsets import Committed, GroupOffsets
from streams.kafka_client import producer
from streams.topics import Topics, ensure_topics
from streams.wire import Alert, Prediction, Source, Times, Window

pytestmark = pytest.mark.broker

PIPELINE = """
from msgspec import Struct
from kappa import Count, Definition, Equals, EventStream, LabelStream, Pipeline

class Event(Struct):
    id: str
    user: str
    at_ms: int

class Label(Struct):
    id: str
    user: str
    known_ms: int
    answer: str

pipeline = Pipeline(
    name="NAME",
    events=EventStream(Event, id="id", entity="user", event_time="at_ms", partitions=1),
    labels=LabelStream(
        Label, id="id", entity="user", event_time="known_ms", target=Equals("answer", "yes")
    ),
    features=Definition(version=1, features={"n": Count(over="1h", tile="5m")}),
)
"""


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    made = Topics(f"t{uuid4().hex[:8]}")
    ensure_topics(bootstrap, made.specs(1))
    return made


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bootstrap: str, topics: Topics
) -> Callable[..., Result]:
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    monkeypatch.setenv("COLUMNS", "240")
    declared = tmp_path / f"{topics.name}.py"
    declared.write_text(PIPELINE.replace("NAME", topics.name))
    app = typer.Typer()
    app.command("alerts")(alerts)
    app.command("audit")(audit)

    def invoke(command: str, *arguments: str) -> Result:
        return CliRunner().invoke(app, [command, "-p", str(declared), *arguments])

    return invoke


def _append(bootstrap: str, topic: str, *values: msgspec.Struct) -> None:
    client = producer(bootstrap, linger_ms=0)
    for value in values:
        client.produce(topic, msgspec.json.encode(value), b"k", 0)
    assert client.flush(30) == 0


def _alert(number: int) -> Alert:
    return Alert(
        alert_id=f"a{number}",
        kind="data_drift",
        metric="psi",
        feature="trips_7d",
        value=0.41,
        threshold=0.25,
        n=6_210,
        window=Window(1_583_625_600_000, 1_584_230_400_000),
        model_version=number,
        cause="PSI of trips_7d is 0.41",
        offsets={},
        action="retrain",
    )


def _prediction(offset: int) -> Prediction:
    source, times = Source(0, offset), Times(1, None, 1)
    made_of = f"t.features.v1-0-{offset}-v0"
    return Prediction(made_of, f"e{offset}", "k", 0.5, 0, "live", 1, 1, source, times)


def test_alerts_are_shown_once_each(
    run: Callable[..., Result], bootstrap: str, topics: Topics
) -> None:
    _append(bootstrap, topics.alerts, _alert(1), _alert(1), _alert(2))

    table = run("alerts")
    lines = run("alerts", "--json")

    assert table.exit_code == lines.exit_code == 0
    assert table.stdout.count("trips_7d") == 2
    for shown in (
        "2020-03-15 00:00",
        "data drift: PSI of trips_7d is 0.41",
        "confirmed",
        "7 d",
        "retrain",
        "times in UTC",
    ):
        assert shown in table.stdout
    found = [json.loads(line) for line in lines.stdout.splitlines()]
    assert [alert["alert_id"] for alert in found] == ["a1", "a2"]


def test_no_alerts_are_told_as_such(run: Callable[..., Result], topics: Topics) -> None:
    assert f"{topics.name} has no alerts" in run("alerts").stdout
    assert run("alerts", "--json").stdout == ""


def test_an_audit_that_adds_up_ends_with_0(
    run: Callable[..., Result], bootstrap: str, topics: Topics
) -> None:
    _append(bootstrap, topics.events, _alert(1), _alert(2))
    _append(bootstrap, topics.predictions, _prediction(0), _prediction(1))

    result = run("audit")

    assert result.exit_code == 0
    assert "2 events = 2 predictions + 0 dead letters" in result.stdout


def test_an_audit_that_does_not_add_up_ends_with_1_and_says_what(
    run: Callable[..., Result], bootstrap: str, topics: Topics
) -> None:
    _append(bootstrap, topics.events, _alert(1), _alert(2))
    _append(bootstrap, topics.predictions, _prediction(0), _prediction(0))

    table, account = run("audit"), run("audit", "--json")

    assert table.exit_code == account.exit_code == 1
    assert "partition 0: 1 events without any answer" in table.stdout
    found = json.loads(account.stdout)
    assert found["ok"] is False
    assert (found["partitions"][0]["lost"], found["partitions"][0]["doubled"]) == (1, 1)


def test_an_audit_says_what_the_skew_audit_found(
    run: Callable[..., Result], bootstrap: str, topics: Topics
) -> None:
    _append(bootstrap, topics.events, _alert(1), _alert(2))
    _append(bootstrap, topics.predictions, _prediction(0), _prediction(1))
    never = f"{topics.features}: never compared with the log"
    assert never in run("audit").stdout

    offsets = GroupOffsets(bootstrap, f"{topics.name}.skew-features.v1", topics.events)
    offsets.commit({0: Committed(2, "2 0")})
    right = run("audit")
    assert f"{topics.features}: 2 records compared with the log up to 0: 2; none different" in (
        right.stdout
    )
    assert right.exit_code == 0

    offsets.commit({0: Committed(2, "2 1")})
    offsets.close()
    wrong = run("audit", "--json")
    assert wrong.exit_code == 1, "the answers add up, but to features that were not the log's"
    (found,) = json.loads(wrong.stdout)["skew"]
    assert (found["compared"], found["different"], found["upto"]) == (2, 1, {"0": 2})
