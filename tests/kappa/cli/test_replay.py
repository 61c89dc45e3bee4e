"""``kappa replay`` from the command line's side: ranges, the report, the exit status."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
import typer
from confluent_kafka import TopicPartition
from typer.testing import CliRunner, Result

from kappa.cli.replay import replay
from streams.kafka_client import consumer, producer
from streams.topics import Topics, ensure_topics
from tests.features.payments import DEFINITION, START_MS, offline, payments, send

pytestmark = [
    pytest.mark.broker,
    # kafka-python 3 leaves the self-pipe of a closed administration client to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PIPELINE = """
from msgspec import Struct
from kappa import Equals, LabelStream, Pipeline
from tests.features.payments import DEFINITION, PAYMENTS

class Label(Struct):
    payment: str
    card: str
    known_ms: int
    fraud: bool

pipeline = Pipeline(
    name="NAME",
    events=PAYMENTS,
    labels=LabelStream(
        Label, id="payment", entity="card", event_time="known_ms", target=Equals("fraud", True)
    ),
    features=DEFINITION,
)
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bootstrap: str) -> Callable[..., Result]:
    """Replay of a pipeline whose feature topic is as a worker would have left it."""
    topics = Topics(f"t{uuid4().hex[:8]}", DEFINITION.version)
    ensure_topics(bootstrap, topics.specs(4))
    send(bootstrap, topics, payments(0, 400))
    values, _ = offline(bootstrap, topics)
    client = producer(bootstrap)
    for (partition, _), value in sorted(values.items()):
        client.produce(topics.features, value, b"k", partition)
    assert client.flush(30) == 0
    committer = consumer(bootstrap, group_id=topics.group("features"))
    ends = {
        p: committer.get_watermark_offsets(TopicPartition(topics.events, p))[1] for p in range(4)
    }
    places = [TopicPartition(topics.events, p, end) for p, end in ends.items()]
    committer.commit(offsets=places, asynchronous=False)
    committer.close()

    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    declared = tmp_path / f"{topics.name}.py"
    declared.write_text(PIPELINE.replace("NAME", topics.name))
    app = typer.Typer()
    app.command()(replay)

    def invoke(*arguments: str, spoil: bool = False) -> Result:
        if spoil:
            client.produce(topics.features, sorted(values.values())[0] + b" ", b"k", 0)
            assert client.flush(30) == 0
        return CliRunner().invoke(app, ["-p", str(declared), *arguments])

    return invoke


def test_an_identical_topic_ends_with_status_0(run: Callable[..., Result]) -> None:
    told = run()
    assert told.exit_code == 0, told.output
    assert "identical, byte for byte" in told.output
    report = json.loads(run("--json").stdout)
    assert (report["events"], report["identical"], report["pending"]) == (400, True, 0)
    assert report["rows"] + report["dead_letters"] == 400


def test_ranges_in_offsets_and_in_event_time(run: Callable[..., Result]) -> None:
    part = json.loads(run("--json", "--partition", "0", "--end-offset", "5").stdout)
    assert part["rows"] + part["dead_letters"] == 5
    at = datetime.fromtimestamp(START_MS // 1000 + 1, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    assert json.loads(run("--json", "--until", at).stdout)["events"] == 400
    assert json.loads(run("--json", "--since", at).stdout)["rows"] == 0
    refused = run("--partition", "4")
    assert "has partitions 0 to 3" in str(refused.exception)


def test_a_difference_ends_with_status_1_and_is_named(run: Callable[..., Result]) -> None:
    told = run(spoil=True)
    assert told.exit_code == 1
    assert "NOT identical" in told.output
    assert "different: partition" in told.output
