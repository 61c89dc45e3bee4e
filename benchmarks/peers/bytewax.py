"""Bytewax: a sliding window's sum and count per key.

    python -m benchmarks.peers.bytewax BOOTSTRAP TOPIC EVENTS WARM_UP FOLDER

Set up in its favour: one worker without recovery, typed decoding by msgspec, results go nowhere.
An event counts when the windows it falls into have it, since the source runs ahead of them.
"""

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import msgspec
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators import windowing
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import cluster_main

from benchmarks.peers.meter import Meter

WINDOWS = 5  # that an event falls into

Amount = tuple[datetime, float]
Pair = tuple[float, int]


class Payment(msgspec.Struct):
    """What is read of a payment."""

    card: str
    ts: int
    amount: float


class _Nowhere(StatelessSinkPartition):  # type: ignore[misc]
    def write_batch(self, items: list[Any]) -> None:
        """Drop them."""


class _Discard(DynamicSink):  # type: ignore[misc]
    def build(self, *_: Any) -> _Nowhere:
        """Return the part of a worker."""
        return _Nowhere()


def main(bootstrap: str, topic: str, events: str, warm_up: str, _: str) -> None:
    """Run until the meter ends the process."""
    packages = ("bytewax", "confluent-kafka", "msgspec")
    meter = Meter(int(events), int(warm_up), packages, counts_per_event=WINDOWS)
    decode = msgspec.json.Decoder(Payment).decode

    def parse(message: Any) -> tuple[str, Amount]:
        payment = decode(message.value)
        return payment.card, (datetime.fromtimestamp(payment.ts / 1000, UTC), payment.amount)

    def add(pair: Pair, amount: Amount) -> Pair:
        meter.add()
        return pair[0] + amount[1], pair[1] + 1

    flow = Dataflow("payments")
    source = KafkaSource([bootstrap], [topic], tail=False, batch_size=1000)
    keyed = op.map("parse", op.input("in", flow, source), parse)
    clock = windowing.EventClock(
        lambda amount: amount[0], wait_for_system_duration=timedelta(seconds=60)
    )
    sliding = windowing.SlidingWindower(
        length=timedelta(seconds=300),
        offset=timedelta(seconds=60),
        align_to=datetime(2023, 1, 1, tzinfo=UTC),
    )
    windows = windowing.fold_window(
        "window",
        keyed,
        clock,
        sliding,
        lambda: (0.0, 0),
        add,
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
    )
    op.output("out", windows.down, _Discard())
    cluster_main(flow, [], 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
