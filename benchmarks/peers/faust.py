"""Plain Faust, as its documentation shows: one agent, one hopping table, an event at a time.

    python -m benchmarks.peers.faust BOOTSTRAP TOPIC EVENTS WARM_UP FOLDER

Window tables go by the time of the record. Results stay in the table.
"""

import sys
from typing import Any

import faust

from benchmarks.peers.meter import Meter

PARTITIONS = 4


def add(pair: tuple[float, int], amount: float) -> tuple[float, int]:
    """Return sum and count with one more amount."""
    return pair[0] + amount, pair[1] + 1


def main(bootstrap: str, topic: str, events: str, warm_up: str, folder: str) -> None:
    """Run until the meter ends the process."""
    meter = Meter(int(events), int(warm_up), ("faust-streaming", "aiokafka"))
    app = faust.App(
        f"{topic}.faust",
        broker=f"aiokafka://{bootstrap}",
        store="memory://",
        datadir=folder,
        topic_partitions=PARTITIONS,
        broker_max_poll_records=5_000,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        autodiscover=False,
        topic_disable_leader=True,
    )
    table: Any = app.Table("sums", default=lambda: (0.0, 0), partitions=PARTITIONS).hopping(
        300, 60, expires=3600
    )

    async def sums(stream: Any) -> None:
        async for event in stream:
            table[event["card"]].apply(add, event["amount"])
            meter.add()

    app.agent(app.topic(topic, key_type=bytes, value_serializer="json"), name="sums")(sums)
    faust.Worker(app, loglevel="warn").execute_from_commandline()


if __name__ == "__main__":
    main(*sys.argv[1:])
