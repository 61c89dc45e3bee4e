"""``kappa cutover``: what an operator sees."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kappa.cli.cutover import stated
from kappa.cli.main import app
from streams.errors import ConfigurationError
from streams.kafka_client import producer
from streams.topics import Topics
from streams.wire import DefinitionActivated, DefinitionChanged
from tests.serving.feature_stream import (
    DEFINITION,
    V2,
    append,
    control_log,
    emit,
    live,
    new_pipeline,
    registered,
    wait_drained,
    working,
)

pytestmark = pytest.mark.broker

FILE = """
from serving.pipeline import Pipeline
from streams.expressions import Above
from streams.stream import LabelStream
from tests.serving.feature_stream import DEFINITION, EVENTS, Sale, V2

pipeline = Pipeline(
    name="{name}",
    events=EVENTS,
    labels=LabelStream(Sale, id="id", entity="shop", event_time="at_ms",
                       target=Above("at_ms", 0.0)),
    features=(DEFINITION, V2),
)
"""


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    return new_pipeline(bootstrap, V2)


@pytest.fixture
def declared(
    bootstrap: str, topics: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The file of a pipeline with two definitions."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    path = tmp_path / f"{topics.name}.py"
    path.write_text(FILE.format(name=topics.name))
    return str(path)


def cutover(declared: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["cutover", "-p", declared, *options])


def test_there_and_back_with_the_offsets_told(
    bootstrap: str, topics: Topics, declared: str
) -> None:
    append(bootstrap, topics, registered(1), live(1), registered(2, definition=2))
    emit(bootstrap, topics, 0, range(25))
    with working(bootstrap, topics, definitions=(DEFINITION, V2)):
        wait_drained(bootstrap, topics)
        there = cutover(declared, "v2", "--at-offset", "1:40", "--reason", "longer windows")
        assert there.exit_code == 0, there.output
        assert "Cut-over from v1 to v2" in there.stdout
        assert "model 2 answers; back by kappa cutover v1" in there.stdout
        back = cutover(declared, "1", "--json")
    *_, line = back.stdout.splitlines()  # the worker in this process logs there too
    assert json.loads(line) == {
        "definition": 1, "before": 2, "model_version": 1, "change": 2,
        "since": {"0": 25, "1": 40},
    }  # fmt: skip
    orders = [e for e in control_log(bootstrap, topics) if isinstance(e, DefinitionChanged)]
    assert [(o.definition, o.model_version, o.reason) for o in orders] == [
        (2, 2, "longer windows"),
        (1, 1, "ordered by an operator"),
    ]


def test_features_that_were_not_built_are_refused(
    bootstrap: str, topics: Topics, declared: str
) -> None:
    client = producer(bootstrap)
    client.produce(topics.events, b"{}", b"k", 0)
    assert client.flush(30) == 0
    refused = cutover(declared, "v2", "--prior")
    assert isinstance(refused.exception, ConfigurationError)
    assert "kappa replay --definition v2" in str(refused.exception)
    assert control_log(bootstrap, topics) == []


def test_without_workers_the_order_stands(bootstrap: str, topics: Topics, declared: str) -> None:
    waited = cutover(declared, "v2", "--prior", "--timeout", "0.3")
    assert waited.exit_code == 1
    assert "the order stands" in waited.stderr
    assert "not yet" in waited.stdout
    again = cutover(declared, "v1", "--no-wait")
    assert isinstance(again.exception, ConfigurationError)
    assert "under way" in str(again.exception)
    with working(bootstrap, topics, definitions=(DEFINITION, V2)):
        emit(bootstrap, topics, 0, range(5), definition=V2)
        wait_drained(bootstrap, topics, definition=V2)
    said = [e for e in control_log(bootstrap, topics) if isinstance(e, DefinitionActivated)]
    assert [(e.partition, e.positions) for e in said] == [(0, {"0": 0}), (1, {"1": 0})]


@pytest.mark.parametrize("text", ["3", "a:4", "1:-2", "1:"])
def test_an_offset_is_stated_with_its_partition(text: str) -> None:
    assert stated(["0:12", "3:4"]) == {0: 12, 3: 4}
    with pytest.raises(ConfigurationError, match="PARTITION:OFFSET"):
        stated([text])
