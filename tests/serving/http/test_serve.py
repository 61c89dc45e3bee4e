"""``kappa serve`` as a process, on a real broker, beside the streaming path."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from features.records import FeatureCodec, FeatureRows
from features.store.columnar import open_store
from features.store.table import store_folder
from infra.supervisor import EXIT_USER_MUST_ACT
from serving.inference.worker import run_inference
from streams.control import ControlWriter
from streams.kafka_client import producer
from streams.positions import PositionReader
from streams.replay import offset_bounds, read_ranges
from streams.settings import Settings
from streams.topics import ensure_topics
from streams.wire import ModelEvent, Prediction, Registered, Request, StageChanged
from tests.serving.http.served_pipeline import pipeline
from tests.serving.http.shop import DEFINITION, NOW_MS, given, live, package, stored
from training.package import load_package

ROOT = Path(__file__).resolve().parents[3]
ENTITIES = [f"shop{i}" for i in range(40)]
PARTITIONS = pipeline.events.partitions
TOPICS = pipeline.topics


@pytest.mark.broker
def test_it_answers_as_the_stream_does_switches_under_load_and_drains(
    bootstrap: str, tmp_path: Path
) -> None:
    ensure_topics(bootstrap, pipeline.topic_specs)
    home = Settings(home=tmp_path).pipeline_home(pipeline.name)
    digests = {v: package(home / "models" / str(v), seed=v) for v in (1, 2)}
    of = {v: load_package(str(home / "models" / str(v)), digests[v]).answers for v in digests}
    canary = StageChanged(2, "canary", "a test", share=0.5, salt="s2")
    append(bootstrap, *(registration(home, v, digests[v]) for v in of), live(1), canary)
    rows = feature_rows()
    features = features_of(rows)
    store = open_store(store_folder(home), Settings())
    stored(store, pipeline, dict(zip(ENTITIES, features, strict=True)), NOW_MS)
    store.close()
    streamed = stream(bootstrap, rows, home)
    with serving(bootstrap, tmp_path, "--timeout", "60") as (process, address):
        asked = [{"entity": entity, "at_ms": NOW_MS} for entity in ENTITIES]
        said = httpx.post(f"{address}/v1/predict", json=asked, timeout=60)
        answers = said.json()["predictions"]
        for answer in answers:
            told = streamed[answer["entity"]]
            assert answer["score"] == told.score
            assert (answer["model_version"], answer["stage"]) == (told.model_version, told.stage)
        assert {answer["model_version"] for answer in answers} == {1, 2}

        load = Load(address)
        load.until(lambda: len(load.answers) > 50)
        append(bootstrap, live(2))
        load.until(lambda: load.answers[-1]["model_version"] == 2)
        append(bootstrap, StageChanged(2, "rolled_back", "a test", instead=1))
        load.until(lambda: load.answers[-1]["model_version"] == 1)
        assert not load.failures
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        load.end()
    assert {status for status, _ in load.refused} <= {0}  # after the end nobody listens
    expected = {v: float(score(one_row(given())).score[0]) for v, score in of.items()}
    for answer in load.answers:
        assert answer["score"] == expected[answer["model_version"]]
    kept = requests_in(bootstrap)
    assert {answer["request_id"] for answer in load.answers} <= kept.keys()


@pytest.mark.broker
def test_off_this_machine_it_does_not_start_without_a_token(bootstrap: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [*command(free_port()), "--host", "0.0.0.0"],  # noqa: S104
        cwd=ROOT, env=environment(bootstrap, tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == EXIT_USER_MUST_ACT
    assert "no token is set" in done.stderr


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.skipif(
    "KAPPA_TEST_HTTP_WORKERS" not in os.environ, reason="set KAPPA_TEST_HTTP_WORKERS: it is slow"
)
def test_several_processes_share_a_port_and_a_token(bootstrap: str, tmp_path: Path) -> None:
    ensure_topics(bootstrap, pipeline.topic_specs)
    (tmp_path / "token").write_text("a-token-of-the-tests\n")
    arguments = ["--workers", "2", "--token-file", str(tmp_path / "token"), "--log", "off"]
    header = {"authorization": "Bearer a-token-of-the-tests"}
    with serving(bootstrap, tmp_path, *arguments) as (process, address):
        row = {"entity": "x", "features": given()}
        assert httpx.post(f"{address}/v1/predict", json=row).status_code == 401
        for _ in range(20):
            answer = httpx.post(f"{address}/v1/predict", json=row, headers=header)
            assert answer.status_code == 200, answer.text
        figures = httpx.get(f"{address}/metrics", headers=header).text
        assert 'route="/v1/predict",status="200"} 20.0' in figures  # of both processes
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


class Load:
    """Clients that ask for one row again and again, each in a thread of its own."""

    def __init__(self, address: str, clients: int = 4) -> None:
        self.answers: list[dict[str, Any]] = []
        self.refused: list[tuple[int, str]] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._address = address
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def until(self, what: Callable[[], bool]) -> None:
        """Wait for a state, while the clients go on."""
        deadline = time.monotonic() + 120
        while not what():
            assert time.monotonic() < deadline, "not within 120 s"
            assert not self.failures, self.failures
            time.sleep(0.01)

    def end(self) -> None:
        """Stop asking."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self) -> None:
        row = {"entity": "x", "features": given()}
        with httpx.Client(base_url=self._address, timeout=60) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post("/v1/predict", json=row)
                except httpx.TransportError as error:
                    self.refused.append((0, repr(error)))
                    return  # it has been stopped
                if answer.status_code == 200:
                    self.answers.append(answer.json()["predictions"][0])
                else:
                    self.failures.append(answer.text)


def append(bootstrap: str, *events: ModelEvent) -> None:
    writer = ControlWriter(bootstrap)
    for event in events:
        writer.append_model_event(TOPICS.models, event)


def registration(home: Path, version: int, digest: str) -> Registered:
    uri = str(home / "models" / str(version))
    return Registered(version, f"c{version}", uri, digest, {}, {}, None)


def feature_rows() -> list[FeatureRows]:
    """Return a feature record of each entity, by partition."""
    random = np.random.default_rng(5)
    made = []
    for partition in range(PARTITIONS):
        entities = ENTITIES[partition::PARTITIONS]
        n = len(entities)
        numbers = random.gamma(2.0, 10.0, (n, 4))
        numbers[:, 3] = numbers[:, 0] / numbers[:, 2]  # above = amount / amount_1d
        made.append(
            FeatureRows(
                partition, [f"e{entity}" for entity in entities], entities,
                np.full(n, NOW_MS), np.arange(n), numbers, [["10"] * n, ["web"] * n], [],
            )
        )  # fmt: skip
    return made


def features_of(parts: list[FeatureRows]) -> list[dict[str, Any]]:
    """Return the rows by name, in the order of ENTITIES."""
    found = {}
    for rows in parts:
        for i, entity in enumerate(rows.entities):
            numbers = zip(DEFINITION.names("numeric"), rows.numeric[i].tolist(), strict=True)
            found[entity] = {"hour": "10", "channel": "web", **dict(numbers)}
    return [found[entity] for entity in ENTITIES]


def one_row(features: dict[str, Any]) -> FeatureRows:
    numbers = [[features["amount"], features["sales_1d"], features["amount_1d"], 1.25]]
    zero = np.zeros(1, np.int64)
    texts = [[features["hour"]], [features["channel"]]]
    return FeatureRows(0, ["x"], ["x"], zero, zero, np.array(numbers, np.float64), texts, [])


def stream(bootstrap: str, parts: list[FeatureRows], home: Path) -> dict[str, Prediction]:
    """Have the inference worker answer the rows; return its predictions by entity."""
    codec, client = FeatureCodec(DEFINITION, pipeline.events, pipeline.labels), producer(bootstrap)
    for rows in parts:
        for value, entity in zip(codec.encode(rows), rows.entities, strict=True):
            client.produce(TOPICS.features, value, entity, rows.partition, timestamp=NOW_MS)
    assert client.flush(30) == 0
    stop = threading.Event()
    worker = threading.Thread(
        target=run_inference,
        args=(bootstrap, TOPICS, pipeline.definitions, pipeline.events, pipeline.model, home,
              "inference"),
        kwargs={"labels": pipeline.labels, "stop": stop},
    )  # fmt: skip
    worker.start()
    reader, deadline = PositionReader(bootstrap), time.monotonic() + 60
    try:
        group, wanted = TOPICS.group("inference"), {TOPICS.features: PARTITIONS}
        while reader.lag(group, wanted)[TOPICS.features]:
            assert worker.is_alive()
            assert time.monotonic() < deadline, "the worker did not answer in 60 s"
            time.sleep(0.02)
    finally:
        stop.set()
        worker.join(60)
        reader.close()
    bounds = offset_bounds(bootstrap, TOPICS.predictions, PARTITIONS)
    found = [
        msgspec.json.decode(value, type=Prediction)
        for batch in read_ranges(bootstrap, TOPICS.predictions, bounds)
        for value in batch.values
        if value is not None
    ]
    return {prediction.entity: prediction for prediction in found}


def requests_in(bootstrap: str) -> dict[str, Request]:
    bounds = offset_bounds(bootstrap, TOPICS.requests, PARTITIONS)
    found = [
        msgspec.json.decode(value, type=Request)
        for batch in read_ranges(bootstrap, TOPICS.requests, bounds)
        for value in batch.values
        if value is not None
    ]
    return {request.request_id: request for request in found}


@contextmanager
def serving(
    bootstrap: str, home: Path, *arguments: str
) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """Start the process and wait until it is ready."""
    port = free_port()
    with (home / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [*command(port), *arguments],
            cwd=ROOT, env=environment(bootstrap, home), stdout=log, stderr=log,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    try:
        while not is_ready(address):
            assert process.poll() is None, (home / "serve.log").read_text()
            assert time.monotonic() < deadline, (home / "serve.log").read_text()
            time.sleep(0.05)
        yield process, address
    finally:
        process.kill()
        process.wait()


def is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def command(port: int) -> list[str]:
    module = "tests.serving.http.served_pipeline"
    return [sys.executable, "-m", "kappa", "serve", "-p", module, "--port", str(port)]


def environment(bootstrap: str, home: Path) -> dict[str, str]:
    return {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": bootstrap, "KAPPA_HOME": str(home)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
