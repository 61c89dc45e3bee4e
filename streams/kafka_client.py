"""librdkafka clients with the settings that every process of the pipeline shares."""

import logging
import time
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from streams.repeated_logs import Seldom

LEADER_TIMEOUT_S = 15.0

_LEADER_COMING = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._UNKNOWN_TOPIC,
)
_LOG = logging.getLogger("librdkafka")
_LOG.addHandler(logging.NullHandler())
# While the brokers are away each connection says so up to twenty times a second.
_LOG.addFilter(Seldom())


def consumer(bootstrap: str, **options: Any) -> Consumer:
    """Return a consumer that reads committed records and never commits by itself.

    ``options`` are librdkafka's, with ``_`` for ``.``, but call-backs (``_cb``). Without
    ``group_id`` it may only ``assign``.
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


def watermarks(client: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """Return (first offset, end that read_committed readers see) of a partition.

    A topic just made, or whose broker restarts, has no leader for a moment: that is waited for.
    Raises KafkaException where it lasts, or for other reasons.
    """
    deadline_s = time.monotonic() + LEADER_TIMEOUT_S
    while True:
        try:
            low, high = client.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            return low, high
        except KafkaException as error:
            if error.args[0].code() not in _LEADER_COMING or time.monotonic() > deadline_s:
                raise
        time.sleep(0.02)


def _dotted(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name if name.endswith("_cb") else name.replace("_", "."): value
        for name, value in options.items()
    }
