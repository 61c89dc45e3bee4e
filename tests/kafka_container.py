"""Apache Kafka in a container, with the embedded broker's settings."""

import gc
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from infra.broker import answers
from infra.kafka_config import server_settings
from infra.kafka_jars import KAFKA_VERSION
from infra.ports import free_ports

START_TIMEOUT_S = 120.0


def engine_answers() -> bool:
    """Return whether a Docker engine is there; asks it before anything else does."""
    there = _ping()
    with warnings.catch_warnings():  # the client leaves the socket open that it tried
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return there


def _ping() -> bool:
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=3)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except DockerException:
        return False


@contextmanager
def kafka_container() -> Iterator[str]:
    """Yield the bootstrap address of a container that lives as long as the block."""
    from testcontainers.core.container import DockerContainer

    port, controller_port = free_ports(2)
    settings = server_settings(port, controller_port)
    # Inside, everybody may connect; outside, the port is published on the loopback alone.
    settings["listeners"] = settings["listeners"].replace("127.0.0.1", "0.0.0.0")  # noqa: S104
    settings["log.dirs"] = "/var/lib/kafka/data"
    container = DockerContainer(f"apache/kafka:{KAFKA_VERSION}")
    container.ports = {port: ("127.0.0.1", port)}
    for name, value in settings.items():
        container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    with container:
        bootstrap = f"127.0.0.1:{port}"
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers(bootstrap, timeout_s=2.0):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer at {bootstrap}: {container.get_logs()}")
        yield bootstrap
