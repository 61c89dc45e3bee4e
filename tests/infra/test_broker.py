"""The embedded broker as its users meet it: real Kafka, real processes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from infra import broker as broker_module
from infra.broker import NEEDED_FREE_BYTES, EmbeddedBroker, answers, broker_session
from infra.ports import free_ports
from streams.errors import BrokerError
from streams.kafka_client import producer
from streams.replay import offset_bounds, read_ranges
from streams.settings import Settings
from streams.topics import TopicSpec, ensure_topics

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def wait_until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the state was not reached in time"
        time.sleep(0.02)


def broker_pid(broker: EmbeddedBroker) -> int:
    return int(json.loads(broker.endpoint_file.read_text())["pid"])


@pytest.mark.broker
def test_topics_records_and_offsets_survive_a_restart(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path / "a folder, named é")
    first = broker.start()
    try:
        ensure_topics(first, [TopicSpec("kept", 2, {"retention.ms": "-1"})])
        client = producer(first)
        client.produce("kept", b"value", b"key", partition=1)
        assert client.flush(10) == 0
    finally:
        broker.stop()
    assert not answers(first, timeout_s=0.5)
    second = broker.start()
    try:
        assert offset_bounds(second, "kept", 2) == {0: (0, 0), 1: (0, 1)}
        (batch,) = read_ranges(second, "kept", {1: (0, 1)})
        assert batch.values == [b"value"]
    finally:
        broker.stop()


@pytest.mark.broker
def test_a_second_user_joins_and_the_last_one_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken_port: int
) -> None:
    # The first choice of ports loses a race: somebody has taken one of them meanwhile.
    choices = iter([[taken_port, free_ports(1)[0]]])
    monkeypatch.setattr(broker_module, "free_ports", lambda n: next(choices, None) or free_ports(n))
    one, two = EmbeddedBroker(tmp_path), EmbeddedBroker(tmp_path)
    address = one.start()
    try:
        assert two.start() == address
        one.stop()
        assert answers(address, timeout_s=5.0)
        two.check()
        process = psutil.Process(broker_pid(two))
        process.kill()
        wait_until(lambda: two.running() is None)
        with pytest.raises(BrokerError, match=r"the embedded broker ended: .*"):
            two.check()
        two.stop()
        # A broker that died is started again.
        assert answers(one.start(), timeout_s=5.0)
    finally:
        two.stop()
        one.stop()
    assert one.running() is None


USER = """
import sys, time
from pathlib import Path
from infra.broker import EmbeddedBroker
print(EmbeddedBroker(Path(sys.argv[1])).start(), flush=True)
time.sleep(600)
"""


@pytest.mark.broker
def test_users_at_once_share_one_broker_which_ends_when_they_are_killed(tmp_path: Path) -> None:
    users = [
        subprocess.Popen(
            [sys.executable, "-c", USER, str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        addresses = [_last_word(user) for user in users]
        assert addresses[0] == addresses[1]
        broker = EmbeddedBroker(tmp_path)
        process = psutil.Process(broker_pid(broker))
    finally:
        for user in users:
            user.send_signal(signal.SIGKILL)
            user.communicate()
    wait_until(lambda: not process.is_running())
    wait_until(lambda: not broker.endpoint_file.exists())


def _last_word(user: "subprocess.Popen[str]") -> str:
    assert user.stdout is not None
    for line in user.stdout:  # log lines may come first
        if line.startswith("127.0.0.1:"):
            return line.strip()
    raise AssertionError(f"the user ended with {user.wait()}")


def test_a_fixed_port_in_use_names_the_port_and_who_has_it(tmp_path: Path, taken_port: int) -> None:
    name = psutil.Process().name()
    settings = Settings(home=tmp_path, broker_port=taken_port)
    expected = rf"port {taken_port} \(KAPPA_BROKER_PORT\) is in use by {name} \(pid {os.getpid()}\)"
    with pytest.raises(BrokerError, match=expected), broker_session(settings):
        pass


def test_too_little_disk_space_is_told_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=12_345_678))
    with pytest.raises(BrokerError, match=rf"12,345,678 bytes .* {NEEDED_FREE_BYTES:,} are needed"):
        EmbeddedBroker(tmp_path).start()


def test_a_folder_that_cannot_be_written_is_an_error_with_the_fix(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("a file where the folder should be")
    with pytest.raises(BrokerError, match=r"can.t be used .* KAPPA_HOME"):
        EmbeddedBroker(home).start()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(json.dumps({"bootstrap": "127.0.0.1:9", "pid": os.getpid()}), id="reused-pid"),
        pytest.param(json.dumps({"bootstrap": "127.0.0.1:9", "pid": 2**22 + 1}), id="no-process"),
        pytest.param('{"bootstrap": "127.0', id="half-written"),
        pytest.param("[]", id="another-shape"),
    ],
)
def test_a_stale_endpoint_file_is_no_running_broker(tmp_path: Path, content: str) -> None:
    broker = EmbeddedBroker(tmp_path)
    broker.folder.mkdir()
    broker.endpoint_file.write_text(content)
    assert broker.running() is None


def test_a_configured_kafka_takes_the_place_of_the_embedded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka.example:9092")
    with broker_session(Settings(home=tmp_path)) as address:
        assert address == "kafka.example:9092"
    assert list(tmp_path.iterdir()) == []
