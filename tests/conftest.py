"""Fixtures that several folders of tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.broker import EmbeddedBroker
from streams.settings import Settings
from tests.kafka_container import engine_answers, kafka_container

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real broker for the whole run; tests take topic names of their own.

    ``KAFKA_BOOTSTRAP_SERVERS`` names one; else it is a container where a Docker engine answers,
    and the embedded broker everywhere else.
    """
    settings = Settings()
    if settings.bootstrap_servers:
        yield settings.bootstrap_servers
        return
    if engine_answers():
        with kafka_container() as address:
            yield address
        return
    broker = EmbeddedBroker(tmp_path_factory.mktemp("kafka"))
    try:
        yield broker.start()
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real input; skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the shared data folder {SHARED_DATA} is absent")
    return SHARED_DATA
