"""Where a benchmark runs: a broker of its own, or the configured one, and a folder that goes."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.broker import EmbeddedBroker
from streams.settings import Settings


@contextmanager
def place() -> Iterator[tuple[str, Path]]:
    """Yield (broker's address, folder); ``KAFKA_BOOTSTRAP_SERVERS`` names another broker."""
    configured = Settings().bootstrap_servers
    with tempfile.TemporaryDirectory() as folder:
        if configured:
            yield configured, Path(folder)
            return
        broker = EmbeddedBroker(Path(folder))
        try:
            yield broker.start(), Path(folder)
        finally:
            broker.stop()
