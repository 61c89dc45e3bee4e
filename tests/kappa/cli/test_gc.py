"""``kappa gc``: what a definition leaves is found by name and removed; all else stays."""

import os
from pathlib import Path
from uuid import uuid4

import pytest
import typer
from typer.testing import CliRunner, Result

from features.store.removal import online_views
from kappa.cli.gc import gc
from kappa.cli.replay import replay
from kappa.loading import load_pipeline
from serving.definitions import definitions_to_run, is_built
from streams.control import ControlWriter
from streams.group_offsets import Committed, GroupOffsets
from streams.removal import group_names, topic_sizes
from streams.topics import Topics, ensure_topics
from streams.wire import DefinitionChanged
from tests.features.payments import PARTITIONS, payments, send

pytestmark = [
    pytest.mark.broker,
    # kafka-python 3 leaves the self-pipe of a closed administration client to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PIPELINE = """
from msgspec import Struct
from kappa import Count, Definition, Equals, LabelStream, Pipeline
from tests.features.payments import PAYMENTS

class Label(Struct):
    payment: str
    card: str
    known_ms: int
    fraud: bool

V1, V2 = (Definition(version, {"n": Count("5m", "1m")}) for version in (1, 2))
pipeline = Pipeline(
    name="NAME",
    events=PAYMENTS,
    labels=LabelStream(
        Label, id="payment", entity="card", event_time="known_ms", target=Equals("fraud", True)
    ),
    features=FEATURES,
)
"""


class Place:
    """A pipeline whose file changes: the folder, the broker, and the commands on it."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.bootstrap = bootstrap
        self.name = f"t{uuid4().hex[:8]}"
        self.home = folder / "home" / "pipelines" / self.name
        self._folder = folder
        self._app = typer.Typer()
        for command in (replay, gc):
            self._app.command()(command)

    def file(self, features: str) -> Path:
        text = PIPELINE.replace("NAME", self.name).replace("FEATURES", features)
        path = self._folder / f"{self.name}_{abs(hash(features))}.py"
        path.write_text(text)
        return path

    def run(self, features: str, command: str, *arguments: str, answer: str = "") -> Result:
        file = str(self.file(features))
        return CliRunner().invoke(self._app, [command, "-p", file, *arguments], input=answer)

    def topics(self) -> set[str]:
        return set(topic_sizes(self.bootstrap, lambda name: name.startswith(f"{self.name}.")))

    def groups(self) -> set[str]:
        return {name for name in group_names(self.bootstrap) if name.startswith(f"{self.name}.")}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bootstrap: str) -> Place:
    """Version 1 and 2 are built of 400 events."""
    made = Place(bootstrap, tmp_path)
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    monkeypatch.setenv("COLUMNS", "300")
    topics = Topics(made.name)
    ensure_topics(bootstrap, topics.specs(PARTITIONS))
    send(bootstrap, topics, payments(0, 400))
    return made


def built(place: Place, online: str = "--no-online") -> None:
    for version in ("v1", "v2"):
        told = place.run("(V1, V2)", "replay", "--definition", version, online)
        assert told.exit_code == 0, told.output


def test_what_is_declared_stays(place: Place) -> None:
    built(place)
    told = place.run("(V1, V2)", "gc", "--yes")
    assert told.exit_code == 0, told.output
    assert "kept: v1 (declared), v2 (declared)" in told.stdout
    assert "nothing to remove" in told.stdout


def test_a_definition_that_is_gone_from_the_file_goes(place: Place) -> None:
    built(place, "--online")
    segments = place.home / "segments" / f"{place.name}.features.v1" / "0123"
    models, old = place.home / "models" / "abc", place.home / "training" / "old"
    young = place.home / "training" / "young"
    unused = [place.home / "examples" / "abc", place.home / ".verify-abc"]
    histories = place.home / "snapshots" / "histories-inference-v1"
    for folder in (segments, models, old, young, histories):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * 3000)
    for folder in (old, *unused):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "file").write_bytes(b"x" * 3000)
        os.utime(folder / "file", (0, 0))
        os.utime(folder, (0, 0))
    assert online_views(place.home, lambda _: True) == ["features_v1", "features_v2"]
    before = place.topics()

    dry = place.run("V2", "gc", "--dry-run")
    assert dry.exit_code == 0, dry.output
    for shown in (f"{place.name}.features.v1", "388", "features_v1", "3.0 kB", "training/old"):
        assert shown in dry.stdout
    assert "removed" not in dry.stdout
    refused = place.run("V2", "gc", answer="n\n")
    assert refused.exit_code == 1
    assert place.topics() == before
    assert segments.exists()

    told = place.run("V2", "gc", answer="y\n")
    assert told.exit_code == 0, told.output
    assert place.topics() == before - {f"{place.name}.features.v1"}
    assert place.groups() == {f"{place.name}.features.v2"}
    assert not segments.exists()
    assert not any(folder.exists() for folder in (old, *unused))
    assert models.exists()
    assert young.exists()
    assert [path.name for path in (place.home / "snapshots").iterdir()] == ["features-v2"]
    assert online_views(place.home, lambda _: True) == ["features_v2"]
    assert "nothing to remove" in place.run("V2", "gc", "--yes").stdout


def test_one_can_go_back_to_the_definition_before(place: Place) -> None:
    built(place)
    order = DefinitionChanged(
        change=1, definition=2, before=1, model_version=0, partitions=PARTITIONS, reason=""
    )
    ControlWriter(place.bootstrap).append_model_event(Topics(place.name).models, order)
    kept = place.run("V2", "gc", "--yes")
    assert "v1 (answered before v2: to go back to)" in kept.stdout
    assert "nothing to remove" in kept.stdout
    gone = place.run("V2", "gc", "--yes", "--previous")
    assert gone.exit_code == 0, gone.output
    assert f"{place.name}.features.v1" not in place.topics()
    # What answers is kept though the file has lost it, and a range of it can't be built.
    assert "v2 (answers)" in place.run("V1", "gc", "--yes").stdout
    refused = place.run("(V1, V2)", "replay", "--definition", "v2", "--from", "10")
    assert "v2 is what runs" in str(refused.exception)


def test_a_definition_whose_worker_runs_is_left_alone(place: Place) -> None:
    built(place)
    from streams.kafka_client import consumer

    worker = consumer(place.bootstrap, group_id=f"{place.name}.features.v1")
    worker.subscribe([f"{place.name}.events.v1"])
    while not worker.assignment():
        worker.poll(0.1)
    refused = place.run("V2", "gc", "--yes")
    worker.close()
    assert f"a process of {place.name}.features.v1 still runs" in str(refused.exception)
    assert f"{place.name}.features.v1" in place.topics()
    assert (place.home / "snapshots" / "features-v1").exists()


def test_workers_run_for_what_is_built_whole(place: Place) -> None:
    pipeline = load_pipeline(str(place.file("(V1, V2)")))
    ensure_topics(place.bootstrap, pipeline.topic_specs)

    def running() -> list[int]:
        return [d.version for d in definitions_to_run(place.bootstrap, pipeline)]

    v1, v2 = pipeline.definitions
    assert running() == [1]
    told = place.run("(V1, V2)", "replay", "--definition", "v2", "--no-online", "--from", "50")
    assert "range built" in told.stdout
    assert running() == [1]
    built(place)
    assert running() == [1, 2]
    assert is_built(place.bootstrap, pipeline, v1)
    offsets = GroupOffsets(place.bootstrap, f"{place.name}.features.v2", pipeline.topics.events)
    offsets.commit({2: Committed(7, "building")})
    offsets.close()
    assert not is_built(place.bootstrap, pipeline, v2)


def test_snapshots_in_a_store_go_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAPPA_SNAPSHOTS", f"memory://{place.name}")
    built(place)
    from fsspec.implementations.memory import MemoryFileSystem

    below = f"/{place.name}/{place.name}"
    store = MemoryFileSystem()
    assert store.exists(f"{below}/features-v1")
    told = place.run("V2", "gc", "--yes")
    assert told.exit_code == 0, told.output
    assert f"memory://{place.name}/{place.name}/features-v1" in told.stdout
    assert not store.exists(f"{below}/features-v1")
    assert store.exists(f"{below}/features-v2")
