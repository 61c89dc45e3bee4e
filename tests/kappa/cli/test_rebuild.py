"""``kappa replay --definition`` from the command line's side."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
import typer
from typer.testing import CliRunner, Result

from kappa.cli.replay import replay
from streams.topics import Topics, ensure_topics
from tests.features.payments import PARTITIONS, ROOT, payments, read_all, send

pytestmark = [
    pytest.mark.broker,
    # kafka-python 3 leaves the self-pipe of a closed administration client to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PIPELINE = """
from msgspec import Struct
from kappa import Count, Definition, Equals, LabelStream, Pipeline
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
    features=(DEFINITION, Definition(2, {"count_1h": Count("1h", "5m")})),
)
"""


@pytest.fixture
def topics(bootstrap: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Topics:
    """The topics of version 2 of a pipeline with 2,000 events."""
    made = Topics(f"t{uuid4().hex[:8]}", 2)
    ensure_topics(bootstrap, made.specs(PARTITIONS))
    send(bootstrap, made, payments(0, 2000, bad=False))
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    (tmp_path / "mine.py").write_text(PIPELINE.replace("NAME", made.name))
    return made


@pytest.fixture
def run(topics: Topics, tmp_path: Path) -> Callable[..., Result]:
    app = typer.Typer()
    app.command()(replay)
    declared = tmp_path / f"{topics.name}.py"
    (tmp_path / "mine.py").rename(declared)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["-p", str(declared), "--no-online", *arguments])

    return invoke


def rows(bootstrap: str, topics: Topics) -> int:
    return sum(map(len, read_all(bootstrap, topics.features)))


def test_a_version_is_built_once(
    run: Callable[..., Result], bootstrap: str, topics: Topics
) -> None:
    told = run("--definition", "v2")
    assert told.exit_code == 0, told.output
    assert "built: 2,000 rows of 2,000 events in " in told.stdout
    report = json.loads(run("--definition", "2", "--json").stdout.splitlines()[-1])
    assert (report["events"], report["rows"], report["complete"]) == (0, 0, True)
    assert rows(bootstrap, topics) == 2000


def test_a_range_emits_its_rows_only(
    run: Callable[..., Result], bootstrap: str, topics: Topics
) -> None:
    told = run("--definition", "v2", "--partition", "1", "--from", "10", "--to", "30")
    assert "range built: 20 rows of 30 events" in told.stdout
    assert rows(bootstrap, topics) == 20
    of_the_first = run("--definition", "v1", "--from", "10")
    assert "definition v1 is what runs" in str(of_the_first.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--definition", "v3"], "declares no definition v3, only v1, v2"),
        (["--definition", "two"], "'two' is no version"),
        (["--rate", "5"], "name the --definition to build"),
        (["--definition", "v2", "--rate", "0"], "must be above 0"),
        (["--definition", "v2", "--from", "noon"], "neither an offset nor a time"),
    ],
)
def test_what_makes_no_sense_is_refused(
    run: Callable[..., Result], arguments: list[str], message: str
) -> None:
    assert message in str(run(*arguments).exception)


@contextmanager
def slow_build(bootstrap: str, topics: Topics, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a build of 1,000 events a second as a process, from its first rows on."""
    command = [
        sys.executable, "-m", "kappa", "replay", "-p", str(folder / f"{topics.name}.py"),
        "--no-online", "--definition", "v2", "--rate", "1000",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        deadline_s = time.monotonic() + 120
        while not rows(bootstrap, topics):
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        yield process


def test_ctrl_c_ends_it_in_order_and_the_next_goes_on(
    run: Callable[..., Result], bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    with slow_build(bootstrap, topics, tmp_path) as process:
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert told.startswith("stopped: ")
    before = rows(bootstrap, topics)
    assert 0 < before < 2000
    report = json.loads(run("--definition", "v2", "--json").stdout.splitlines()[-1])
    assert (report["rows"], report["complete"]) == (2000 - before, True)
    assert rows(bootstrap, topics) == 2000


def test_killed_it_repeats_a_stretch_and_changes_nothing(
    run: Callable[..., Result], bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    with slow_build(bootstrap, topics, tmp_path) as process:
        process.kill()
    assert 0 < rows(bootstrap, topics) < 2000
    assert run("--definition", "v2").exit_code == 0
    found: dict[tuple[int, int], set[bytes]] = {}
    for batch in read_all(bootstrap, topics.features):
        for value in batch.values:
            place = msgspec.json.decode(value or b"")["source"]
            found.setdefault((place["partition"], place["offset"]), set()).add(value or b"")
    assert len(found) == 2000
    assert {len(values) for values in found.values()} == {1}
