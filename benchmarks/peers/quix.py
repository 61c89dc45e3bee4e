"""Quix Streams: a hopping window's sum and count per key.

    python -m benchmarks.peers.quix BOOTSTRAP TOPIC EVENTS WARM_UP FOLDER

Set up in its favour: results are told once, when a window closes, and go nowhere; state has no
changelog topic.
"""

import sys
from typing import Any

from quixstreams import Application
from quixstreams.dataframe.windows import Count, Sum

from benchmarks.peers.meter import Meter


def main(bootstrap: str, topic: str, events: str, warm_up: str, folder: str) -> None:
    """Run until the meter ends the process."""
    meter = Meter(int(events), int(warm_up), ("quixstreams", "confluent-kafka", "orjson"))
    app = Application(
        broker_address=bootstrap,
        consumer_group=f"{topic}.quix",
        auto_offset_reset="earliest",
        state_dir=folder,
        use_changelog_topics=False,
        loglevel="ERROR",
    )

    def counted(event: Any) -> Any:
        meter.add()
        return event

    payments = app.dataframe(app.topic(topic, value_deserializer="json")).apply(counted)
    window = payments.hopping_window(duration_ms=300_000, step_ms=60_000, grace_ms=60_000)
    window.agg(sum=Sum("amount"), count=Count()).final()
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
