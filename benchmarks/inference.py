"""How many predictions a core makes, from the features topic to committed transactions.

    uv run python benchmarks/inference.py [--events N] [--peer-events N] [--json]

The flagship's feature records (nine features, four partitions) are answered by version 0 (the loop
alone: decode, build, transaction), by a network of the flagship's shape, and, as the floor, copied
as they are by a bare consume–produce loop in the same transactions; then Quix Streams answers them
in its exactly-once mode with the same model; all in one run on one broker.
Batches, headers' absence in the copy aside, are the same. ``per_core`` is records divided by the
processor seconds of all threads of the process, the client's own included and the broker's not;
``per_s`` is by the clock. Both begin when the partitions are assigned, of Quix Streams after a
tenth of the records. ``*_batch_N`` are rows per second of the network alone, in batches of N.
``--peer-events 0`` leaves the peer out; a short look: ``--events 40000 --peer-events 5000``.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import environments, flagship_model  # noqa: E402
from benchmarks.peers.outcome import PeerSkippedError  # noqa: E402
from benchmarks.place import place  # noqa: E402
from benchmarks.report import report  # noqa: E402
from examples.citibike import pipeline  # noqa: E402
from features.records import FeatureCodec, FeatureRows  # noqa: E402
from serving.inference.answers import Predict  # noqa: E402
from serving.inference.histories import history_keeper  # noqa: E402
from serving.inference.loading import Loaded  # noqa: E402
from serving.inference.router import Router  # noqa: E402
from serving.inference.stretches import Outgoing, Position  # noqa: E402
from serving.inference.transaction import TransactionalHop  # noqa: E402
from serving.inference.worker import InferenceWorker  # noqa: E402
from streams.clock import SystemClock  # noqa: E402
from streams.control import ControlFollower  # noqa: E402
from streams.kafka_client import producer  # noqa: E402
from streams.replay import offset_bounds  # noqa: E402
from streams.settings import Settings  # noqa: E402
from streams.topics import Topics, ensure_topics  # noqa: E402
from streams.wire import Registered, StageChanged  # noqa: E402
from training.package import load_package  # noqa: E402

PARTITIONS = pipeline.events.partitions
STATIONS = 52
MAX_BATCH = 10_000
GOAL_PER_CORE = 50_000.0
CHUNK = 10_000


class Drained(threading.Event):
    """Set as soon as the hop stands at the ends of its topic; keeps the time from assignment."""

    def __init__(self, hop: TransactionalHop, ends: dict[int, int]) -> None:
        super().__init__()
        self._hop, self._ends = hop, ends
        self._began: tuple[float, float] | None = None
        self.wall_s = self.cpu_s = 0.0

    def is_set(self) -> bool:
        """Return whether all partitions are at their end."""
        at = {p: position.next_offset for (_, p), position in self._hop.positions.items()}
        now = (time.perf_counter(), time.process_time())
        if self._began is None and len(at) == len(self._ends):
            self._began = now
        if at != self._ends or self._began is None:
            return False
        self.wall_s, self.cpu_s = now[0] - self._began[0], now[1] - self._began[1]
        return True


PACKAGES = ("confluent-kafka", "msgspec", "onnxruntime", "torch", "numpy")


def main() -> None:
    """Measure, print a table, and with --json one object on the last line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--peer-events", type=int, default=60_000)
    parser.add_argument(
        "--peers-folder",
        type=Path,
        default=Settings().home / "benchmark-peers",
        help="where the peer's environment is kept",
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with place() as (bootstrap, folder):
        results = measure(bootstrap, folder, options)
    report(
        "Inference: feature records to committed predictions, per second",
        results.figures,
        {"network_per_core": GOAL_PER_CORE},
        PACKAGES,
        options.json,
        results.skipped,
        results.versions,
    )


@dataclass
class Results:
    """What was measured, and what was not and why; rates in records per second."""

    figures: dict[str, float]
    skipped: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def measure(bootstrap: str, folder: Path, options: argparse.Namespace) -> Results:
    """Return the results of all that are compared."""
    events: int = options.events
    topics = Topics(f"bench{uuid4().hex[:8]}", pipeline.features.version)
    ensure_topics(bootstrap, topics.specs(PARTITIONS))
    rows = fill(bootstrap, topics, events)
    package = folder / environments.QUIX_INFERENCE.name / "package"
    package.parent.mkdir()
    digest = flagship_model.save(package, rows)
    network = load_package(str(package), digest, answer_with="cpu").answers
    results = Results({"events": events})
    runs = {
        "bare_copy": copy(bootstrap, topics),
        "version_0": answer(bootstrap, topics, folder, "v0", None),
        "network": answer(bootstrap, topics, folder, "network", network),
    }
    for name, run in runs.items():
        results.figures[f"{name}_per_core"] = round(events / run.cpu_s)
        results.figures[f"{name}_per_s"] = round(events / run.wall_s)
    if options.peer_events:
        measure_peer(bootstrap, topics.features, folder, options, results)
    begun = time.process_time()
    network(rows)
    alone_s = time.process_time() - begun
    results.figures["network_alone_per_core"] = round(len(rows) / alone_s)
    results.figures |= flagship_model.rates(package)
    return results


def measure_peer(
    bootstrap: str, topic: str, folder: Path, options: argparse.Namespace, results: Results
) -> None:
    """Add the rates of Quix Streams, or why there are none."""
    peer, events = environments.QUIX_INFERENCE, min(options.peer_events, options.events)
    try:
        python = environments.interpreter(peer, options.peers_folder, say)
        found = environments.measure(peer, python, bootstrap, topic, events, events // 10, folder)
    except PeerSkippedError as error:
        results.skipped[peer.name] = str(error)
        return
    results.figures[f"{peer.name}_per_core"] = round(found.rates.per_core)
    results.figures[f"{peer.name}_per_s"] = round(found.rates.per_s)
    ours = results.figures["network_per_core"]
    results.figures["times_quix_per_core"] = ours / found.rates.per_core
    results.versions |= {f"{peer.name}:{k}": v for k, v in found.versions.items()}


def say(line: str) -> None:
    """Tell people what goes on."""
    print(line, file=sys.stderr, flush=True)


def fill(bootstrap: str, topics: Topics, n: int) -> FeatureRows:
    """Append ``n`` feature records; return the rows of the last chunk."""
    codec, rng = FeatureCodec(pipeline.features, pipeline.events), np.random.default_rng(7)
    client = producer(bootstrap, linger_ms=5, queue_buffering_max_messages=2 * CHUNK)
    headers: list[tuple[str, str | bytes | None]] = [
        ("ce_specversion", b"1.0"),
        ("ce_type", b"kappa.features.v1"),
        ("ce_source", b"/bench/features"),
        ("ce_id", b"f3b1"),
        ("kappa-featurised-at-ms", b"1577836800123"),
    ]
    rows: FeatureRows | None = None
    for chunk, start in enumerate(range(0, n, CHUNK)):
        partition, first = chunk % PARTITIONS, chunk // PARTITIONS * CHUNK
        rows = random_rows(rng, partition, first, min(CHUNK, n - start))
        for value, entity, at_ms in zip(
            codec.encode(rows), rows.entities, rows.event_times_ms.tolist(), strict=True
        ):
            client.produce(
                topics.features, value, entity, partition, timestamp=at_ms, headers=headers
            )
        if client.flush(60):
            raise SystemExit("the broker did not take the feature records")
    if rows is None:
        raise SystemExit("--events must be at least 1")
    return rows


def random_rows(rng: np.random.Generator, partition: int, first: int, n: int) -> FeatureRows:
    """Return rows as the flagship has them."""
    users = rng.choice(["Subscriber", "Customer"], n).tolist()
    stations = [f"{3184 + s}" for s in rng.integers(0, STATIONS, n).tolist()]
    texts = {
        "hour": list(map(str, rng.integers(0, 24, n).tolist())),
        "weekday": list(map(str, rng.integers(0, 7, n).tolist())),
        "user_type": users,
        "station": stations,
    }
    numeric = rng.exponential(20, (n, len(pipeline.features.names("numeric"))))
    numeric[rng.random(numeric.shape) < 0.02] = np.nan
    offsets = np.arange(first, first + n)
    return FeatureRows(
        partition=partition,
        event_ids=[f"JC-2020-01-{partition}-{i:08d}" for i in offsets.tolist()],
        entities=stations,
        event_times_ms=1_577_836_800_000 + 1000 * offsets,
        source_offsets=offsets,
        numeric=numeric,
        categories=[texts[name] for name in pipeline.features.names("category")],
        groups=[users],
    )


def hop_of(bootstrap: str, topics: Topics, group: str) -> tuple[TransactionalHop, Drained]:
    """Return a connection of a new group and what tells that it is done."""
    hop = TransactionalHop(
        bootstrap, topics.predictions, [topics.features], f"{topics.name}.{group}", "w0",
        max_batch=MAX_BATCH,
    )  # fmt: skip
    bounds = offset_bounds(bootstrap, topics.features, PARTITIONS)
    return hop, Drained(hop, {p: end for p, (_, end) in bounds.items()})


def copy(bootstrap: str, topics: Topics) -> Drained:
    """Copy the values in transactions; nothing is decoded or built."""
    hop, drained = hop_of(bootstrap, topics, "copy")
    no_headers: list[list[tuple[str, str | bytes]]] = [[]] * MAX_BATCH
    while not drained.is_set():
        taken = hop.take()
        outgoing = [
            Outgoing(
                topics.shadow,
                stretch.log.partition,
                [key or b"" for key in stretch.log.keys],
                [value or b"" for value in stretch.log.values],
                stretch.log.timestamps_ms.tolist(),
                no_headers[: len(stretch.log)],
            )
            for stretch in taken.stretches
        ]
        if taken.reached:
            hop.commit(outgoing, {at: Position(offset) for at, offset in taken.reached.items()})
        hop.read({(topics.features, p): Position(0) for p in hop.held})
    hop.close()
    return drained


def answer(
    bootstrap: str, topics: Topics, home: Path, group: str, model: Predict | None
) -> Drained:
    """Run the inference worker until it is drained, with ``model`` live or version 0."""
    hop, drained = hop_of(bootstrap, topics, group)
    router = Router("inference", "w0", pipeline.model.prior, Loaded(loader(model)))
    if model is not None:
        router.follow([Registered(1, "c", "", "", {}, {}, None), StageChanged(1, "live", "")])
    control = ControlFollower(bootstrap, topics.models)
    declared = pipeline.definitions, pipeline.events, pipeline.labels
    histories = history_keeper(bootstrap, topics, *declared, home, "inference")
    worker = InferenceWorker(
        bootstrap, hop, topics, *declared, router, control, histories, "inference", SystemClock(),
    )  # fmt: skip
    worker.run(drained)
    histories.close()
    hop.close()
    control.close()
    return drained


def loader(model: Predict | None) -> Callable[[Registered], Predict]:
    """Return what loads ``model`` for every version."""

    def load(_: Registered) -> Predict:
        return model if model is not None else no_model

    return load


def no_model(rows: FeatureRows) -> NDArray[np.float64]:
    """Return nothing: version 0 answers where there is no model."""
    raise LookupError(f"no model for {len(rows)} rows")


if __name__ == "__main__":
    main()
