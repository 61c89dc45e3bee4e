"""What the tests of histories share: a log of entities' events, and models that hash them."""

import hashlib
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.definition import Definition
from features.records import FeatureCodec, FeatureRows
from serving.inference.answers import Predict
from streams.kafka_client import producer
from streams.topics import Topics
from streams.wire import Prediction, Registered
from tests.serving.feature_stream import DEFINITION, EVENTS, T0_MS, ConstantModel, of
from training.dataset.histories import Histories

ENTITIES = 9


class HashModel:
    """Answers with a hash of all that stands in a history: the least difference shows."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.most = 0

    def __call__(self, rows: Histories) -> NDArray[np.float64]:
        """Return (n,) scores."""
        self.most = max(self.most, len(rows))
        values, texts = rows.events.numeric.tolist(), rows.events.categories[0]
        return np.array(
            [
                hashed([(values[i], texts[i]) for i in history[-self.last :] if i >= 0])
                for history in rows.index.tolist()
            ]
        )


def hashed(history: list[tuple[list[float], str]]) -> float:
    """Return a number in [0, 1] for a history."""
    return int.from_bytes(hashlib.sha256(repr(history).encode()).digest()[:6], "big") / 2**48


def load(event: Registered) -> Predict:
    """Load versions 1 to 9 as constants, those of two digits as hashes of so many events."""
    return ConstantModel(event.version / 100) if event.version < 10 else HashModel(event.version)


def history_rows(partition: int, sources: list[int], definition: int = 1) -> FeatureRows:
    """Return the rows of the events at ``sources``; a function of place and definition alone."""
    n, at = len(sources), np.array(sources, np.int64)
    of_event = at * 7919 // 3 % ENTITIES
    return FeatureRows(
        partition=partition,
        event_ids=[f"e{partition}-{i}" for i in sources],
        entities=[f"shop {partition}/{i}" for i in of_event],
        event_times_ms=T0_MS + 1000 * at,
        source_offsets=at,
        numeric=(at % 101 + 1000 * definition).astype(np.float64).reshape(n, 1),
        categories=[[f"kind {i % 13}" for i in sources]],
        groups=[],
    )


def with_repeats(begin: int, end: int, seed: int) -> list[int]:
    """Return source offsets in which crashes have repeated some stretches."""
    rng, found = np.random.default_rng(seed), list[int]()
    for source in range(begin, end):
        found.append(source)
        if rng.random() < 0.03:
            found += found[-int(rng.integers(1, 9)) :]
    return found


def emit(
    bootstrap: str,
    topics: Topics,
    partition: int,
    sources: list[int],
    definition: Definition = DEFINITION,
) -> None:
    """Append the feature records of the events at ``sources``."""
    rows = history_rows(partition, sources, definition.version)
    client = producer(bootstrap)
    for value in FeatureCodec(definition, EVENTS).encode(rows):
        client.produce(of(topics, definition).features, value, b"k", partition)
    assert client.flush(30) == 0


def expected(partition: int, end: int, last: int, definition: int = 1) -> dict[str, float]:
    """Return event id → answer of a hash model, one event after the other."""
    rows = history_rows(partition, list(range(end)), definition)
    seen: dict[str, list[tuple[list[float], str]]] = {}
    found = {}
    for i, (event, entity) in enumerate(zip(rows.event_ids, rows.entities, strict=True)):
        mine = seen.setdefault(entity, [])
        mine.append((rows.numeric[i].tolist(), rows.categories[0][i]))
        found[event] = hashed(mine[-last:])
    return found


def of_version(answers: list[Prediction], version: int) -> dict[str, float]:
    """Return event id → score of the answers of a version."""
    return {a.event_id: a.score for a in answers if a.model_version == version}


def snapshots(home: Path) -> list[Path]:
    """Return the snapshots of histories below a pipeline's folder."""
    return sorted(home.glob("snapshots/histories-*/*.snapshot"))


class Gate:
    """Lets a reading of the log pass or wait."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.waited = threading.Event()

    def wait(self) -> None:
        """Wait until it is opened."""
        self.waited.set()
        assert self.opened.wait(60)
