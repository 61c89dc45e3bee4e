"""A pipeline under ``kappa up``: its metrics, its traces, and a worker that is stuck."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen
from uuid import uuid4

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from infra.ports import is_free
from infra.supervisor import RestartPolicy, Supervisor
from serving.health.reading import VitalsFollower
from streams.kafka_client import producer
from streams.settings import Settings
from streams.topics import Topics
from tests.infra.test_observability import INFRA, NAME, expressions
from tests.streams.otlp_receiver import Receiver, attributes, receiving

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

ROOT = INFRA.parent
SOURCE = (ROOT / "tests" / "infra" / "tiny_pipeline.py").read_text()
ROLES = ("features", "inference", "outcomes", "health")
TRACE, SENDER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ELSEWHERE = re.compile(r"kappa_http_|kappa_gpu_")
"""Metrics of `kappa serve`, and of machines with a GPU."""


def wait_until(condition: Callable[[], bool], told: Callable[[], str]) -> None:
    """Wait for a state; ``told`` says how things stand instead."""
    deadline_s = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline_s, told()
        time.sleep(0.1)


@dataclass
class Up:
    """A pipeline that runs: where its processes show their metrics, and who takes its spans."""

    topics: Topics
    bootstrap: str
    ports: range
    receiver: Receiver

    def scraped(self) -> dict[str, list[str]]:
        """Return metric name → samples, of all processes that answer."""
        found: dict[str, list[str]] = {}
        for port in self.ports:
            with contextlib.suppress(OSError):
                with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    text = answer.read().decode()
                for line in text.splitlines():
                    if not line.startswith("#"):
                        found.setdefault(re.split(r"[{ ]", line, maxsplit=1)[0], []).append(line)
        return found

    def send(self, number: int, trace: str | None = None) -> None:
        """Send an event of now; no event at all where ``number`` is below 0."""
        at_ms = int(time.time() * 1000)
        event = {
            "order_id": f"o{number}", "shop": "s1", "channel": "web", "amount": 9.5,
            "placed_at_ms": at_ms,
        }  # fmt: skip
        value = json.dumps(event).encode() if number >= 0 else b'{"order_id": "torn'
        headers: list[tuple[str, str | bytes | None]] = (
            [] if trace is None else [("traceparent", trace.encode())]
        )
        client = producer(self.bootstrap)
        client.produce(
            self.topics.events, value, b"s1", partition=0, timestamp=at_ms, headers=headers
        )
        assert client.flush(30) == 0


@pytest.fixture(scope="module")
def up(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A small pipeline that has answered events, a sampled and a broken one among them."""
    home = tmp_path_factory.mktemp("up")
    name = f"t{uuid4().hex[:8]}"
    declared = home / "observed.py"
    declared.write_text(SOURCE.replace('name="tiny"', f'name="{name}"'))
    ports = free_range(len(ROLES) + 1)
    with receiving() as receiver:
        environment = {
            **os.environ, "KAFKA_BOOTSTRAP_SERVERS": bootstrap, "KAPPA_HOME": str(home),
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.address, "OTEL_BSP_SCHEDULE_DELAY": "200",
        }  # fmt: skip
        command = [sys.executable, "-m", "kappa", "up", "-p", str(declared)]
        roles = [part for role in ROLES for part in ("--role", role)]
        log = home / "up.log"
        with log.open("w") as told, subprocess.Popen(
            [*command, *roles, "--metrics", str(ports[0])], cwd=ROOT, env=environment,
            stdout=told, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            try:
                running = Up(Topics(name), bootstrap, ports, receiver)
                for number in range(5):
                    running.send(number)
                running.send(-1)
                running.send(5, f"00-{TRACE}-{SENDER}-01")
                running.send(6, f"00-{'ab' * 16}-{SENDER}-00")
                yield running
            finally:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(60)
                finally:
                    process.kill()


def free_range(n: int) -> range:
    """Return ``n`` ports in a row that nobody listens on, and no client is given meanwhile."""
    for first in range(20_000 + os.getpid() % 100 * 100, 32_000, n):
        if all(is_free(port) for port in range(first, first + n)):
            return range(first, first + n)
    raise AssertionError("no ports are free")


def test_every_metric_of_the_rules_and_the_dashboard_is_shown_by_a_process(up: Up) -> None:
    asked = {name for text in expressions().values() for name in NAME.findall(text)}
    asked = {name for name in asked if not ELSEWHERE.match(name)}
    assert len(asked) > 15
    wait_until(lambda: asked <= up.scraped().keys(), lambda: str(asked - up.scraped().keys()))
    found = up.scraped()
    roles = {re.search(r'role="([^"]+)"', s) for s in found["kappa_disk_free_bytes"]}
    assert {match[1] for match in roles if match} == {"up", *ROLES}
    lag = " ".join(found["kappa_lag_records"])
    for partition in (0, 1):
        of = f'partition="{partition}",reader="inference",topic="{up.topics.features}"'
        assert f"kappa_lag_records{{{of}}} " in lag
    running = [line for line in found["kappa_process_running"] if line.endswith(" 1.0")]
    assert len(running) == len(ROLES)
    (dead,) = found["kappa_dead_letters_total"]
    assert dead == f'kappa_dead_letters_total{{role="features",topic="{up.topics.events}"}} 1.0'


def test_a_sampled_event_is_one_trace_from_the_event_to_the_outcomes(up: Up) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="extra tracing")
    wait_until(lambda: len(up.receiver.spans) >= 3, lambda: str(up.receiver.spans))
    by_service: dict[str, Span] = dict(up.receiver.spans)
    name = up.topics.name
    chain = [by_service[f"{name}-{role}"] for role in ("features", "inference", "outcomes")]
    assert len(up.receiver.spans) == len(chain)  # the other events have none
    assert {span.trace_id.hex() for span in chain} == {TRACE}
    parents = [SENDER, *(span.span_id.hex() for span in chain)]
    assert [span.parent_span_id.hex() for span in chain] == parents[:-1]
    topics = (up.topics.events, up.topics.features, up.topics.predictions)
    for span, topic in zip(chain, topics, strict=True):
        assert span.name == f"process {topic}"
        assert attributes(span)["messaging.destination.name"] == topic
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    starts = [span.start_time_unix_nano for span in chain]
    assert starts == sorted(starts)


HANGS = """
import sys, time
from pathlib import Path
from serving.health.observing import Observer

look, hang = Observer.look, Path({hang!r})

def stuck(self):
    while hang.exists():
        time.sleep(0.05)
    return look(self)

Observer.look = stuck
from kappa.cli.main import main
sys.argv = ["kappa", "worker", "health", "-p", {module!r}]
main()
"""


def test_a_worker_whose_loop_stands_still_is_ended_and_started_again(
    up: Up, bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = tmp_path / "hang"
    declared = tmp_path / "observed.py"
    declared.write_text(SOURCE.replace('name="tiny"', f'name="{up.topics.name}"'))
    script = HANGS.format(hang=str(hang), module=str(declared))
    monkeypatch.setenv("KAPPA_STUCK_AFTER_S", "6")
    monkeypatch.setenv("KAPPA_WORKER", "stuck")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    supervisor = Supervisor(
        "unused", up.topics.name, Settings(home=tmp_path), bootstrap, ["health"],
        RestartPolicy(first_wait_s=0.1), command=lambda _: [sys.executable, "-c", script],
    )  # fmt: skip
    reports = VitalsFollower(bootstrap, up.topics.health)

    def heard() -> set[int]:
        reports.poll(0.1)
        every = reports.recent(0)
        return {v.pid for v in every if v.worker == "health-stuck" and "broker/up" in v.figures}

    with contextlib.closing(reports), supervisor:
        log = supervisor.logs / "health.log"
        wait_until(lambda: len(heard()) == 1, log.read_text)
        hang.touch()
        wait_until(lambda: supervisor.status()[0].restarts == 1, log.read_text)
        hang.unlink()
        wait_until(lambda: len(heard()) == 2, log.read_text)
        supervisor.check()
        assert supervisor.status()[0].restarts == 1
        told = log.read_text()
    assert "no progress for 6 s: exit to be restarted" in told
    assert "in stuck" in told  # where it hung


def test_the_rules_pass_prometheus_own_check() -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    for what, file in (("rules", "rules.yml"), ("config", "prometheus.yml")):
        subprocess.run([tool, "check", what, file], cwd=INFRA / "prometheus", check=True)
