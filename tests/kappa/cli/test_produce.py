"""``kappa produce`` from the command line's side."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
import typer
from confluent_kafka import TopicPartition
from typer.testing import CliRunner, Result

from kappa.cli.produce import produce
from streams.errors import ConfigurationError, SourceError
from streams.kafka_client import consumer

PIPELINE = """
import numpy as np
from msgspec import Struct
from kappa import (
    Count, Definition, Equals, EventStream, LabelStream, Pipeline
)
from streams.recording import Recording

class Event(Struct):
    id: str
    user: str
    at_ms: int

class Label(Struct):
    id: str
    user: str
    known_ms: int
    answer: str

def generate(seed, scale):
    for day in range(3):
        count = int(100 * scale)
        times = np.arange(count) * 1000 + day * 86_400_000 + seed
        yield Recording(
            times, np.arange(count) % 5 == 4, [b"u"] * count, [b"{}"] * count
        )
    yield Recording(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_), [], [])

pipeline = Pipeline(
    name="NAME",
    events=EventStream(Event, id="id", entity="user", event_time="at_ms", partitions=2),
    labels=LabelStream(
        Label, id="id", entity="user", event_time="known_ms", target=Equals("answer", "yes")
    ),
    features=Definition(version=1, features={"n": Count(over="1h", tile="5m")}),
    generate=GENERATE,
)
"""


@pytest.fixture
def name() -> str:
    return f"t{uuid4().hex[:8]}"


@pytest.fixture
def declared(tmp_path: Path, name: str) -> Path:
    path = tmp_path / f"{name}.py"
    path.write_text(PIPELINE.replace("NAME", name).replace("=GENERATE", "=generate"))
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    app = typer.Typer()
    app.command()(produce)

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch, bootstrap: str) -> str:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    return bootstrap


def records(bootstrap: str, topic: str) -> int:
    reader = consumer(bootstrap)
    try:
        ends = [
            reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1]
            for partition in range(2)
        ]
    finally:
        reader.close()
    return sum(ends)


@pytest.mark.broker
def test_a_file_of_events_and_one_of_labels(
    run: Callable[..., Result], kafka: str, declared: Path, name: str, tmp_path: Path
) -> None:
    (tmp_path / "e.csv").write_text("id,user,at_ms\na,u,1000\nb,v,2000\nc,u,\n")
    (tmp_path / "l.jsonl").write_text('{"id":"a","user":"u","known_ms":1500,"answer":"yes"}\n')
    result = run(tmp_path / "e.csv", "-p", declared, "--labels", tmp_path / "l.jsonl")
    assert result.exit_code == 0, result.output
    assert f"delivered 3 events to {name}.events.v1 and 1 labels to {name}.labels.v1" in (
        result.stdout
    )
    assert records(kafka, f"{name}.events.v1") == 3
    assert records(kafka, f"{name}.labels.v1") == 1


@pytest.mark.broker
def test_the_generated_stream_with_a_limit(
    run: Callable[..., Result], kafka: str, declared: Path, name: str
) -> None:
    result = run("--generate", "-p", declared, "--scale", "0.5", "--limit", "60", "--speed", "1e9")
    assert result.exit_code == 0, result.output
    assert "delivered 48 events" in result.stdout
    assert records(kafka, f"{name}.labels.v1") == 12


@pytest.mark.broker
def test_the_generated_stream_whole_though_its_last_part_is_empty(
    run: Callable[..., Result], kafka: str, declared: Path, name: str
) -> None:
    result = run("--generate", "-p", declared, "--scale", "0.5")
    assert result.exit_code == 0, result.output
    assert records(kafka, f"{name}.events.v1") == 120
    assert records(kafka, f"{name}.labels.v1") == 30


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ([], ConfigurationError, "nothing to produce: name files or folders, or give --generate"),
        (["x.csv", "--generate"], ConfigurationError, "--generate and the file x.csv are both"),
        (["x.csv", "--rate", "1", "--speed", "2"], ConfigurationError, "choose one"),
        (["--generate", "--scale", "0"], ConfigurationError, "scale 0.0: must be above 0"),
        (["gone.csv"], SourceError, "gone.csv does not exist"),
    ],
)
def test_what_can_be_said_before_a_broker_is_needed(
    run: Callable[..., Result],
    declared: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")  # nobody: must not be asked
    result = run(*arguments, "-p", declared)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


def test_a_pipeline_without_a_generator(run: Callable[..., Result], declared: Path) -> None:
    declared.write_text(declared.read_text().replace("=generate", "=None"))
    result = run("--generate", "-p", declared)
    assert isinstance(result.exception, ConfigurationError)
    assert "has no generator: give a file" in str(result.exception)
