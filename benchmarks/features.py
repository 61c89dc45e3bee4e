"""How many events a core turns into features: ours live and in replay, beside its peers.

    uv run python benchmarks/features.py [--events N] [--peers ...] [--definition ...] [--json]

All read the same log (127-byte JSON payments, 10,000 cards, four partitions) from the same broker
in the same run, one process each, and keep the same: a sum and a count per card over five minutes
that move by one. The Python peers read its first part, since they are slow; Flink and ours all of
it. A core's rate is events divided by the processor seconds (all threads) of the process after a
warm-up; the broker's own are not counted.

- Plain Faust, Quix Streams, Bytewax: hopping windows as their documentation shows, results kept or
  dropped (Faust alone writes its changelog, which it can't be kept from).
- Flink SQL: a hopping window, and an OVER window with one row per event, to Kafka and to nowhere.
- Ours, live: a row per event, valid, without repeated ids; every record emitted with its headers,
  acknowledged and committed, the newest of each card written to the online store.
- Ours, in replay: built anew from the log into a topic of its own, as ``kappa replay --definition``
  does; and recomputed in memory and compared with what was emitted, as ``kappa replay`` does.

What writes to Kafka is compared with what writes to Kafka: the replay with Flink's warm jobs, the
recomputing with those whose rows go nowhere.

``--pipeline module:attribute --data FOLDER`` measures ours with the real definition and data of a
pipeline too; ``--definition citibike`` and ``fraud`` are short for those of the examples.
"""

import argparse
import sys
import time
from pathlib import Path
from uuid import uuid4

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import environments, ours, payments, replays  # noqa: E402
from benchmarks.peers import flink  # noqa: E402
from benchmarks.peers.outcome import PeerSkippedError, Rates  # noqa: E402
from benchmarks.place import place  # noqa: E402
from benchmarks.report import report  # noqa: E402
from streams.errors import KappaError  # noqa: E402
from streams.topics import KEEP_FOREVER, TopicSpec, ensure_topics  # noqa: E402

PYTHON_PEERS = {
    peer.name: peer for peer in (environments.FAUST, environments.QUIX, environments.BYTEWAX)
}
PEERS = (*PYTHON_PEERS, "flink")
SEED = 7
WARM_UP = 0.25  # of a peer's events
GOALS = {
    "ours_replay_per_core": 250_000.0,
    "ours_live_per_s": 100_000.0,
    "replay_times_best_python_peer": 15.0,
    "replay_times_flink": 2.0,
    "recompute_times_flink_to_nowhere": 2.0,
}
EXAMPLES = {
    "citibike": ("examples.citibike:pipeline", "citibike_jc"),
    "fraud": ("examples.fraud:pipeline", "fraud_handbook"),
}
PACKAGES = ("confluent-kafka", "feast", "msgspec", "numba", "numpy")


class Results:
    """Figures as they come, what was skipped and why, and versions met on the way."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.skipped: dict[str, str] = {}
        self.versions: dict[str, str] = {}

    def add(self, name: str, rates: Rates) -> None:
        """Keep the rates of something measured."""
        self.figures[f"{name}_per_core"] = round(rates.per_core)
        self.figures[f"{name}_per_s"] = round(rates.per_s)


def main() -> None:
    """Measure, print a table, and with --json one object on the last line."""
    options = arguments()
    began = time.monotonic()
    with place() as (bootstrap, folder):
        results = measure(bootstrap, folder, options)
    results.figures["events"] = options.events
    results.figures["benchmark_s"] = round(time.monotonic() - began)
    report(
        "Features: events per second, of one core and by the clock",
        results.figures, GOALS, PACKAGES, options.json, results.skipped, results.versions,
    )  # fmt: skip


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000, help="for ours and Flink")
    parser.add_argument("--peer-events", type=int, default=120_000, help="for Quix and Bytewax")
    parser.add_argument("--faust-events", type=int, default=16_000, help="for plain Faust")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument(
        "--peers-folder", type=Path, default=Path.home() / ".cache" / "kappa" / "peers",
        help="where the peers' environments are kept",
    )  # fmt: skip
    parser.add_argument("--pipeline", action="append", default=[], help="module:attribute")
    parser.add_argument("--data", action="append", default=[], type=Path, help="of that pipeline")
    parser.add_argument("--definition", action="append", default=[], choices=sorted(EXAMPLES))
    parser.add_argument(
        "--data-root", type=Path, default=ROOT.parent / "shared" / "data",
        help="holds the data folders of the examples",
    )  # fmt: skip
    parser.add_argument("--limit", type=int, help="records of a pipeline's data at most")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if len(options.pipeline) != len(options.data):
        parser.error("give one --data for each --pipeline")
    for name in options.definition:
        spec, data = EXAMPLES[name]
        options.pipeline.append(spec)
        options.data.append(options.data_root / data)
    return options


def measure(bootstrap: str, folder: Path, options: argparse.Namespace) -> Results:
    """Return all figures; one after the other, so that none disturbs another."""
    results, name = Results(), f"bench{uuid4().hex[:8]}"
    same = ours.Log("benchmarks.payments:same", name, options.events)
    rich = ours.Log("benchmarks.payments:rich", name, options.events)
    topic = same.pipeline().topics.events
    for log in (same, rich):
        ensure_topics(bootstrap, log.pipeline().topic_specs)
    say(f"filling {topic} with {options.events:,} payments")
    cards = payments.cards_of(options.events, payments.CARDS, SEED)
    payments.fill(bootstrap, topic, cards)

    for peer in options.peers:
        if peer == "flink":
            measure_flink(bootstrap, topic, folder, options, results)
        else:
            measure_python_peer(peer, bootstrap, topic, folder, options, results)
    for name, log in (("ours", same), ("ours_6_features", rich)):
        try:
            measure_ours(bootstrap, log, folder, name, results)
        except ours.MeasuringError as error:
            results.skipped[name] = str(error)
    for spec, data in zip(options.pipeline, options.data, strict=True):
        measure_pipeline(bootstrap, spec, data, folder, options.limit, results)
    compare(results.figures)
    return results


def measure_python_peer(
    name: str,
    bootstrap: str,
    topic: str,
    folder: Path,
    options: argparse.Namespace,
    results: Results,
) -> None:
    """Add the rates of a Python peer, or why there are none."""
    peer = PYTHON_PEERS[name]
    events = min(options.faust_events if name == "faust" else options.peer_events, options.events)
    try:
        python = environments.interpreter(peer, options.peers_folder, say)
        say(f"{name}: {events:,} events")
        measured = environments.measure(
            peer, python, bootstrap, topic, events, int(WARM_UP * events), folder
        )
    except PeerSkippedError as error:
        results.skipped[name] = str(error)
        return
    results.add(name, measured.rates)
    results.versions |= {f"{name}:{k}": v for k, v in measured.versions.items()}


def measure_flink(
    bootstrap: str, topic: str, folder: Path, options: argparse.Namespace, results: Results
) -> None:
    """Add the rates of both Flink queries, or why there are none."""
    try:
        command = flink.prepare(options.peers_folder / f"flink-{flink.VERSION}", say)
    except PeerSkippedError as error:
        results.skipped["flink"] = str(error)
        return
    results.versions["flink"] = flink.VERSION
    empty = f"{topic}.empty"
    ensure_topics(bootstrap, [TopicSpec(empty, payments.PARTITIONS, KEEP_FOREVER)])
    for query in flink.QUERIES:
        sink = f"{topic}.{query}"
        ensure_topics(bootstrap, [TopicSpec(sink, payments.PARTITIONS, KEEP_FOREVER)])
        say(f"flink {query}: {options.events:,} events, {len(flink.RUNS)} jobs")
        try:
            sql = flink.script(query, bootstrap, topic, empty, sink)
            measured = flink.measure(command, sql, folder, options.events)
        except PeerSkippedError as error:
            results.skipped[f"flink_{query}"] = str(error)
            continue
        for kind, rates in measured.items():
            results.add(f"flink_{query}_{kind}", rates)


def measure_ours(bootstrap: str, log: ours.Log, folder: Path, name: str, results: Results) -> None:
    """Add the rates of ours, live and in replay."""
    say(f"{name}: {log.events:,} events live")
    results.add(f"{name}_live", ours.live(bootstrap, log, folder / name))
    say(f"{name}: {log.events:,} events in replay, into a topic of its own")
    results.add(f"{name}_replay", replays.rebuilt(bootstrap, log, folder / name))
    say(f"{name}: {log.events:,} events recomputed and compared")
    results.add(f"{name}_recompute", replays.recomputed(bootstrap, log, folder / name))


def measure_pipeline(
    bootstrap: str, spec: str, data: Path, folder: Path, limit: int | None, results: Results
) -> None:
    """Add the rates of ours with a pipeline's own definition and data, or why there are none."""
    name = spec.partition(":")[0].rpartition(".")[2]
    if not data.exists():
        results.skipped[name] = f"there is no {data}"
        return
    say(f"{name}: filling its topics from {data}")
    try:
        log = ours.fill(bootstrap, spec, data, f"{name}{uuid4().hex[:8]}", limit)
        results.figures[f"{name}_events"] = log.events
        measure_ours(bootstrap, log, folder, name, results)
    except (ours.MeasuringError, KappaError) as error:
        results.skipped[name] = str(error)


def compare(figures: dict[str, float]) -> None:
    """Add how many times ours is as fast as its peers per core, where both were measured."""
    flink_to_kafka = [f"flink_{query}_warm" for query in flink.QUERIES]
    flink_to_nowhere = [f"flink_{query}_blackhole" for query in flink.QUERIES]
    for name, ours_is, peers in (
        ("replay_times_best_python_peer", "ours_replay", list(PYTHON_PEERS)),
        ("live_times_best_python_peer", "ours_live", list(PYTHON_PEERS)),
        ("live_times_plain_faust", "ours_live", ["faust"]),
        ("replay_times_flink", "ours_replay", flink_to_kafka),
        ("live_times_flink", "ours_live", flink_to_kafka),
        ("recompute_times_flink_to_nowhere", "ours_recompute", flink_to_nowhere),
    ):
        rates = [figures[f"{p}_per_core"] for p in peers if f"{p}_per_core" in figures]
        if rates and f"{ours_is}_per_core" in figures:
            figures[name] = round(figures[f"{ours_is}_per_core"] / max(rates), 2)


def say(text: str) -> None:
    """Show progress; standard output is for the results."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
