"""How many predictions a second the monitor keeps up with on one core, features and labels too.

    uv run python benchmarks/monitor.py [--events N] [--json]

A log of the flagship's shape (nine features, four partitions) stands in a real broker: of each
event its feature record, its prediction in a transaction, its label; a model is live. The monitor
reads all of it, matches every label, closes the days with the flagship's monitors (all five kinds:
data, prediction and concept drift, performance, fairness), and is timed: ``per_core`` is
predictions divided by the processor seconds of all of its threads, the client's own included, the
broker's not; the features and labels of these predictions are in it. The parts are microseconds per
prediction of the worker's own thread, and ``client_threads`` what the client needs beside it.
``snapshot_ms`` and ``snapshot_mb`` are what one save of the state takes at the end.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.inference import CHUNK, PARTITIONS, random_rows  # noqa: E402
from benchmarks.place import place  # noqa: E402
from benchmarks.report import report  # noqa: E402
from examples.citibike import TripEnd, pipeline  # noqa: E402
from features.records import FeatureCodec, FeatureRows  # noqa: E402
from serving.monitoring.worker import MonitorWorker  # noqa: E402
from streams.collector import rare_collections  # noqa: E402
from streams.control import ControlWriter  # noqa: E402
from streams.kafka_client import producer  # noqa: E402
from streams.replay import offset_bounds  # noqa: E402
from streams.topics import Topics, ensure_topics  # noqa: E402
from streams.wire import Advance, Prediction, Registered, Source, StageChanged, Times  # noqa: E402
from training.answers import Answers  # noqa: E402
from training.reference import Reference  # noqa: E402
from training.validation_scores import calibration_sums, validation_scores  # noqa: E402

GOAL_PER_CORE = 100_000.0
SPACING_MS = 10_000
START_MS = 1_577_836_800_000
DAY_MS = 86_400_000
FIRST = PARTITIONS * CHUNK  # a day and more of each partition, read before the clock runs
PACKAGES = ("confluent-kafka", "msgspec", "numpy", "scipy")


def main() -> None:
    """Measure, print a table, and with --json one object on the last line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with place() as (bootstrap, folder):
        figures = measure(bootstrap, folder, options.events)
    report(
        "The monitor: predictions a second on one core, and microseconds of each per part",
        figures,
        {"per_core": GOAL_PER_CORE},
        PACKAGES,
        options.json,
    )


def measure(bootstrap: str, folder: Path, events: int) -> dict[str, float]:
    """Return rate and parts."""
    topics = Topics(f"bench{uuid4().hex[:8]}", pipeline.features.version)
    ensure_topics(bootstrap, topics.specs(PARTITIONS))
    fill(bootstrap, topics, 0, FIRST, folder)
    monitor = MonitorWorker(
        bootstrap, topics, pipeline.definitions, pipeline.events, pipeline.labels,
        pipeline.monitors, pipeline.training, pipeline.step, folder / "home", pipeline.model.task,
        pipeline.alerting,
    )  # fmt: skip
    with closing(monitor), rare_collections():
        ControlWriter(bootstrap).append_command(topics.commands, Advance("a", START_MS + DAY_MS))
        while monitor.state.closed_ms is None:
            monitor.turn()
        fill(bootstrap, topics, FIRST, FIRST + events, folder)
        parts = Parts(monitor)
        ends = {
            topic: {p: e for p, (_, e) in offset_bounds(bootstrap, topic, PARTITIONS).items()}
            for topic in (topics.features, topics.predictions, topics.labels)
        }
        began = time.perf_counter(), time.process_time(), time.thread_time()
        while not monitor.inputs.has_read(ends):
            monitor.turn()
        wall, cpu, thread = (
            now - then
            for now, then in zip(
                (time.perf_counter(), time.process_time(), time.thread_time()), began, strict=True
            )
        )
        began_s = time.perf_counter()
        _, arrays = monitor.state.to_snapshot()
        snapshot_s = time.perf_counter() - began_s
    each = {f"{name}_us": 1e6 * s / events for name, s in parts.seconds.items()}
    other = 1e6 * thread / events - sum(each.values())
    return {
        "events": events,
        "per_core": events / cpu,
        "per_s": events / wall,
        "cpu_us": 1e6 * cpu / events,
        **each,
        "other_us": other,
        "client_threads_us": 1e6 * (cpu - thread) / events,
        "snapshot_ms": 1e3 * snapshot_s,
        "snapshot_mb": sum(array.nbytes for array in arrays.values()) / 1e6,
    }


class Parts:
    """Times parts of a worker by wrapping their methods: seconds of its own thread."""

    def __init__(self, worker: MonitorWorker) -> None:
        self.seconds: dict[str, float] = {}
        inputs, state = worker.inputs, worker.state
        for topic, reader in inputs.readers.items():
            self._time(reader, "poll", f"read {topic.partition('.')[2].partition('.')[0]}")
        self._time(inputs.features, "decode", "decode features")
        self._time(inputs.predictions, "decode", "decode predictions")
        self._time(inputs.labels, "decode", "decode labels")
        for name in ("add_groups", "add_answers", "add_labels", "take_matches"):
            self._time(state.matcher, name, "match")
        for watch in state.watches:
            for name in ("add_features", "add_answers", "add_matches", "close"):
                self._time(watch, name, f"{type(watch).__name__} {name.replace('add_', '')}")

    def _time(self, of: Any, method: str, name: str) -> None:
        call: Callable[..., Any] = getattr(of, method)

        def timed(*args: Any, **more: Any) -> Any:
            began = time.thread_time()
            try:
                return call(*args, **more)
            finally:
                spent = time.thread_time() - began
                self.seconds[name] = self.seconds.get(name, 0.0) + spent

        setattr(of, method, timed)


def fill(bootstrap: str, topics: Topics, begin: int, end: int, folder: Path) -> None:
    """Append the records of events ``begin`` to ``end``; before the first a live model."""
    codec, rng = FeatureCodec(pipeline.features, pipeline.events), np.random.default_rng(7)
    client = producer(bootstrap, linger_ms=5, queue_buffering_max_messages=4 * CHUNK)
    answers = producer(bootstrap, linger_ms=5, transactional_id=f"{topics.name}-{begin}")
    answers.init_transactions(30)
    score = rng.beta(2, 8, end)
    label = rng.random(end) < score
    for start in range(begin, end, CHUNK):
        chunk = start // CHUNK
        partition, first = chunk % PARTITIONS, chunk // PARTITIONS * CHUNK
        rows = random_rows(rng, partition, first, min(CHUNK, end - start))
        times = START_MS + SPACING_MS * rows.source_offsets
        rows = replace(rows, event_times_ms=times)
        if not start:
            put_live(bootstrap, topics, rows, score, label, folder)
        append(client, topics.features, partition, codec.encode(rows), times.tolist())
        told = predictions_of(rows, score[start : start + len(rows)])
        answers.begin_transaction()
        append(answers, topics.predictions, partition, told, times.tolist())
        answers.commit_transaction(60)
        known = (times + 900_000).tolist()
        labels = [
            msgspec.json.encode(TripEnd(i, s, at, 1_000.0 if long else 300.0))
            for i, s, at, long in zip(
                rows.event_ids, rows.entities, known, label[start : start + len(rows)], strict=True
            )
        ]
        append(client, topics.labels, partition, labels, known)


def predictions_of(rows: FeatureRows, scores: Any) -> list[bytes]:
    """Return the records of a model's answers to the rows."""
    columns = (rows.event_ids, rows.entities, rows.event_times_ms.tolist(),
               rows.source_offsets.tolist(), scores.tolist())  # fmt: skip
    return [
        msgspec.json.encode(
            Prediction(
                f"bench.features.v1/{rows.partition}/{offset}/1", event_id, entity, score, 1,
                "live", 1, at, Source(rows.partition, offset), Times(at, at + 3, at + 5),
            )
        )
        for event_id, entity, at, offset, score in zip(*columns, strict=True)
    ]  # fmt: skip


def append(client: Any, topic: str, partition: int, values: list[bytes], times: list[int]) -> None:
    """Append values and wait for the broker."""
    for value, at_ms in zip(values, times, strict=True):
        client.produce(topic, value, b"3184", partition, timestamp=at_ms)
    if client.flush(60):
        raise SystemExit(f"the broker did not take the records of {topic}")


def put_live(
    bootstrap: str, topics: Topics, rows: FeatureRows, score: Any, label: Any, folder: Path
) -> None:
    """Put version 1 live, whose training saw ``rows``, and whose validation these scores (n,)."""
    task, answers = pipeline.model.task, Answers(score)
    reference = Reference.from_rows([rows], pipeline.features, [rows.event_times_ms]).with_scores(
        validation_scores(task, answers), calibration_sums(task, answers, label)
    )
    content = json.dumps(reference.to_json()).encode()
    package = folder / "package"
    package.mkdir()
    (package / "reference.json").write_bytes(content)
    manifest = {"files": {"reference.json": hashlib.sha256(content).hexdigest()}}
    told = json.dumps(manifest).encode()
    (package / "manifest.json").write_bytes(told)
    digest = hashlib.sha256(told).hexdigest()
    loss = float(np.mean(-np.log(np.where(label, score, 1 - score))))
    writer, metrics = ControlWriter(bootstrap), {"log_loss": loss}
    registered = Registered(1, "c1", str(package), digest, {}, metrics, None)
    writer.append_model_event(topics.models, registered)
    writer.append_model_event(topics.models, StageChanged(1, "live", "benchmark"))


if __name__ == "__main__":
    main()
