"""How many events a core turns into features: ours live and in replay, and a plain Faust agent.

    uv run python benchmarks/features.py [--events N] [--json]

All three read the same kind of log (127-byte JSON payments, 10,000 cards, four partitions) from
the same broker in the same run. The plain agent does what Faust's documentation shows: one hopping
table (300 s every 60 s) updated per event, nothing emitted. Ours decodes, validates, recognises
repeated ids, keeps a count, a sum and a mean over the same window and more, and emits every
feature record with its headers to a topic, acknowledged and committed. A core's rate is events
divided by the processor seconds (all threads) of the worker's process between two commits; the
broker's own are not counted.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any
from uuid import uuid4

import msgspec
import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.report import report  # noqa: E402
from features.aggregations import Count, Mean, Sum  # noqa: E402
from features.definition import Category, Definition, HourOfDay, Number  # noqa: E402
from features.verify import Replay  # noqa: E402
from infra.broker import EmbeddedBroker  # noqa: E402
from streams.expressions import Value  # noqa: E402
from streams.kafka_client import producer  # noqa: E402
from streams.positions import PositionReader  # noqa: E402
from streams.settings import Settings  # noqa: E402
from streams.stream import EventStream  # noqa: E402
from streams.topics import Topics, TopicSpec, ensure_topics  # noqa: E402

PARTITIONS = 4
CARDS = 10_000
WARM_UP = 0.25  # of the events; compiling, importing and joining the group is not what is measured
GOAL_TIMES_FAUST = 50.0


class Payment(msgspec.Struct, frozen=True):
    """A card payment."""

    event_id: str
    card: str
    ts: int
    amount: Annotated[float, msgspec.Meta(ge=0)]
    country: str
    channel: str


EVENTS = EventStream(Payment, "event_id", "card", "ts", partitions=PARTITIONS)
DEFINITION = Definition(
    1,
    {
        "count_5m": Count("5m", "1m"),
        "sum_5m": Sum(Value("amount"), "5m", "1m"),
        "mean_5m": Mean(Value("amount"), "5m", "1m"),
        "amount": Number(Value("amount")),
        "hour": HourOfDay(),
        "channel": Category("channel"),
    },
)
# What `python -m features.worker benchmarks.features` runs; the name comes with --name.
pipeline = SimpleNamespace(topics=Topics("bench"), features=DEFINITION, events=EVENTS)

PACKAGES = ("faust-streaming", "aiokafka", "confluent-kafka", "msgspec", "numba", "numpy")


def main() -> None:
    """Measure, print a table, and with --json one object on the last line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=600_000, help="for ours")
    parser.add_argument("--faust-events", type=int, default=12_000, help="for the plain agent")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plain-faust", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain_faust:
        plain_faust(*options.plain_faust)
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings()
        broker = None if settings.bootstrap_servers else EmbeddedBroker(Path(folder))
        bootstrap = settings.bootstrap_servers or (broker.start() if broker else "")
        try:
            figures = measure(bootstrap, Path(folder), options.events, options.faust_events)
        finally:
            if broker is not None:
                broker.stop()
    goals = {"live_times_plain_faust": GOAL_TIMES_FAUST}
    report("Features: events per second of one core", figures, goals, PACKAGES, options.json)


def measure(bootstrap: str, folder: Path, events: int, faust_events: int) -> dict[str, float]:
    """Return the figures; rates in events per second of one core."""
    faust_topic = f"bench{uuid4().hex[:8]}"
    ensure_topics(bootstrap, [TopicSpec(faust_topic, PARTITIONS)])
    fill(bootstrap, faust_topic, faust_events)
    plain = plain_faust_rate(bootstrap, faust_topic, faust_events, folder)

    topics = Topics(f"bench{uuid4().hex[:8]}", DEFINITION.version)
    ensure_topics(bootstrap, topics.specs(PARTITIONS))
    fill(bootstrap, topics.events, events)
    command = [
        sys.executable, "-m", "features.worker", "benchmarks.features", bootstrap,
        str(folder / "home"), "--name", topics.name, "--no-online",
    ]  # fmt: skip
    live = watch(command, bootstrap, topics.group("features"), topics.events, events, folder)

    cpu = time.process_time()
    report = Replay(bootstrap, topics, DEFINITION, EVENTS).run()
    replayed_cpu_s = time.process_time() - cpu
    if not report.identical:
        raise SystemExit(f"the replay differs from what was emitted live: {report.mismatches}")
    return {
        "plain_faust_per_core": round(plain),
        "live_per_core": round(live["per_core"]),
        "live_per_s": round(live["per_s"]),
        "replay_features_per_s": round(report.events_per_s),
        "replay_and_compare_per_core": round(report.events / replayed_cpu_s),
        "live_times_plain_faust": round(live["per_core"] / plain, 1),
        "events": events,
    }


def fill(bootstrap: str, topic: str, n: int) -> None:
    """Append ``n`` payments to a topic."""
    rng = np.random.default_rng(7)
    cards, amounts = rng.integers(0, CARDS, n).tolist(), rng.exponential(40, n).tolist()
    times = (1_700_000_000_000 + np.cumsum(rng.integers(0, 20, n))).tolist()
    client = producer(
        bootstrap, partitioner="murmur2_random", linger_ms=5, queue_buffering_max_messages=2 * n
    )
    for i, (card, amount, ts) in enumerate(zip(cards, amounts, times, strict=True)):
        value = (
            f'{{"event_id":"e{i:09d}","card":"c{card:05d}","amount":{amount:.2f},'
            f'"country":"DE","channel":"web","ts":{ts}}}'
        )
        client.produce(topic, value.encode(), f"c{card:05d}".encode(), timestamp=ts)
    if client.flush(120):
        raise SystemExit(f"the broker did not take the payments for {topic}")


def watch(
    command: list[str], bootstrap: str, group: str, topic: str, n: int, folder: Path
) -> dict[str, float]:
    """Run a worker until it has committed everything; return its rates after the warm-up."""
    positions = PositionReader(bootstrap)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        start = end = None
        while end is None:
            if process.poll() is not None:
                raise SystemExit((folder / "worker.log").read_text())
            done = sum(positions.committed(group).get(topic, {}).values())
            times = psutil.Process(process.pid).cpu_times()
            reading = (done, time.perf_counter(), times.user + times.system)
            if start is None and done >= WARM_UP * n:
                start = reading
            if done >= n:
                end = reading
            time.sleep(0.02)
        if start is None or end[0] == start[0]:
            raise SystemExit("too few events to measure: take more --events")
        return {
            "per_s": (end[0] - start[0]) / (end[1] - start[1]),
            "per_core": (end[0] - start[0]) / (end[2] - start[2]),
        }
    finally:
        process.kill()
        process.wait()
        positions.close()


def plain_faust_rate(bootstrap: str, topic: str, n: int, folder: Path) -> float:
    """Return the events per second of one core of a plain agent, by its own clock."""
    command = [sys.executable, __file__, "--plain-faust", bootstrap, topic, str(n), str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    rates = [line for line in ended.stderr.splitlines() if line.startswith("per core ")]
    if not rates:
        raise SystemExit(f"the plain agent did not end in order:\n{ended.stderr[-2000:]}")
    return float(rates[0].removeprefix("per core "))


def plain_faust(bootstrap: str, topic: str, events: str, folder: str) -> None:
    """Run Faust as its documentation shows: one agent, one hopping table, an event at a time."""
    import faust

    n = int(events)
    app = faust.App(
        topic,
        broker=f"aiokafka://{bootstrap}",
        store="memory://",
        datadir=f"{folder}/faust",
        topic_partitions=PARTITIONS,
        broker_max_poll_records=5_000,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        autodiscover=False,
        topic_disable_leader=True,
    )
    table: Any = app.Table("sums", default=float, partitions=PARTITIONS).hopping(
        300, 60, expires=3600
    )
    warm = int(WARM_UP * n)

    async def sums(stream: Any) -> None:
        seen, started = 0, 0.0
        async for event in stream:
            table[event["card"]] += event["amount"]
            seen += 1
            if seen == warm:
                started = time.process_time()
            elif seen == n:
                rate = (n - warm) / (time.process_time() - started)
                os.write(2, f"per core {rate}\n".encode())  # Faust has taken stdout and stderr
                os._exit(0)

    app.agent(app.topic(topic, key_type=bytes, value_serializer="json"), name="sums")(sums)
    faust.Worker(app, loglevel="warn").execute_from_commandline()


if __name__ == "__main__":
    main()
