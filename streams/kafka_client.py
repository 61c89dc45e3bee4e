"""librdkafka clients with the settings that every process of the pipeline shares."""

import logging
from typing import Any

from confluent_kafka import Consumer, Producer

_LOG = logging.getLogger("librdkafka")
_LOG.addHandler(logging.NullHandler())


def consumer(bootstrap: str, **options: Any) -> Consumer:
    """Return a consumer that reads committed records and never commits by itself.

    ``options`` are librdkafka's, with ``_`` for ``.``. Without ``group_id`` it may only ``assign``.
    """
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": "kappa-assign-only",  # the client wants one; assign never joins it
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 10,
        **_dotted(options),
    }
    return Consumer(settings, logger=_LOG)


def producer(bootstrap: str, **options: Any) -> Producer:
    """Return an idempotent producer; ``options`` as for :func:`consumer`."""
    settings = {
        "bootstrap.servers": bootstrap,
        "enable.idempotence": True,
        "compression.type": "lz4",
        **_dotted(options),
    }
    return Producer(settings, logger=_LOG)


def _dotted(options: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "."): value for name, value in options.items()}
