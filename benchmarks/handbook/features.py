"""The features of our own pipeline for the handbook's payments, made by the feature engine.

The definition is richer than ``examples/fraud.py``'s: it says what is unusual for a customer, and
how the verdicts on a terminal are spread over the weeks. Some windows fit what the handbook says of
its simulation: a terminal is misused for 28 days. The two stages (customer, terminal) run in
this process over the whole log, re-keyed records and labels in the order of time, as a replay does.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.fraud import AMOUNT, IS_FRAUD, pipeline
from examples.fraud_source import DELAY, read
from features.processing.interleaving import seen_by_time
from features.processing.output import StageOutput
from features.processing.stages import stages_of
from features.records import FeatureRows
from kappa import (
    Count,
    Definition,
    Last,
    Max,
    Mean,
    Number,
    Quantile,
    Ratio,
    Std,
    Sum,
)
from streams.batch import LogBatch
from streams.recording import Recording
from streams.topics import Topics

BATCH = 20_000


def _recent(over: str, tile: str = "1d", delay: str = DELAY) -> Sum:
    return Sum(IS_FRAUD, over=over, tile=tile, by="terminal", on="labels", delay=delay)


def _verdicts(over: str, tile: str = "1d", delay: str = DELAY) -> Count:
    return Count(over=over, tile=tile, by="terminal", on="labels", delay=delay)


def _risk(over: str, tile: str = "1d", delay: str = DELAY) -> Mean:
    return Mean(IS_FRAUD, over=over, tile=tile, by="terminal", on="labels", delay=delay)


DEFINITION = Definition(
    version=1,
    features={
        "amount": Number(AMOUNT),
        # What the customer usually does; the median does not mind a few payments by a thief.
        "median": Quantile(AMOUNT, 0.5, over="60d", tile="1d", low=0.1, high=2000),
        "std": Std(AMOUNT, over="60d", tile="1d"),
        "highest": Max(AMOUNT, over="60d", tile="1d"),
        "to_median": Ratio("amount", "median"),
        "to_highest": Ratio("amount", "highest"),
        # What the customer did lately, beside that.
        "payments_1d": Count(over="24h", tile="1h"),
        "payments_7d": Count(over="7d", tile="6h"),
        "mean_3d": Mean(AMOUNT, over="3d", tile="1h"),
        "mean_14d": Mean(AMOUNT, over="14d", tile="6h"),
        "highest_3d": Max(AMOUNT, over="3d", tile="1h"),
        "highest_14d": Max(AMOUNT, over="14d", tile="6h"),
        "mean_3d_to_median": Ratio("mean_3d", "median"),
        "mean_14d_to_median": Ratio("mean_14d", "median"),
        "highest_3d_to_median": Ratio("highest_3d", "median"),
        "highest_14d_to_median": Ratio("highest_14d", "median"),
        # The verdicts on the terminal, from the newest known to older ones.
        "last_verdict": Last(
            IS_FRAUD, over="14d", tile="1h", by="terminal", on="labels", delay=DELAY
        ),
        "frauds_2d": _recent("2d", "1h"),
        "frauds_5d": _recent("5d", "1h"),
        "risk_2d": _risk("2d", "1h"),
        "risk_5d": _risk("5d", "1h"),
        "risk_10d": _risk("10d", "6h"),
        "frauds_20d": _recent("20d"),
        "verdicts_20d": _verdicts("20d"),
        "risk_20d": _risk("20d"),
        "frauds_14d_ago": _recent("7d", delay="14d"),
        "risk_14d_ago": _risk("7d", delay="14d"),
        "frauds_21d_ago": _recent("6d", delay="21d"),
        "risk_21d_ago": _risk("6d", delay="21d"),
        "risk_25d_ago": _risk("2d", delay="25d"),
        "frauds_27d_ago": _recent("3d", delay="27d"),
        "risk_27d_ago": _risk("3d", delay="27d"),
        "frauds_30d_ago": _recent("7d", delay="30d"),
        "risk_30d_ago": _risk("7d", delay="30d"),
        "terminal_7d": Count(over="7d", tile="6h", by="terminal"),
    },
)


@dataclass(frozen=True, slots=True)
class Made:
    """Features of n payments; ``numeric`` (n, F), ``categories`` C lists of n texts."""

    ids: NDArray[np.int64]
    numeric: NDArray[np.float64]
    categories: list[list[str]]


def made_features(folder: Path, definition: Definition, cache: Path | None = None) -> Made:
    """Return the features of all payments in ``folder``, in the order of their numbers.

    Once made they are read from ``cache``.
    """
    name = hashlib.sha256(definition.hash(pipeline.events, pipeline.labels).encode()).hexdigest()
    file = None if cache is None else cache / f"{name[:16]}.npz"
    if file is not None and file.is_file():
        with np.load(file, allow_pickle=False) as stored:
            return Made(stored["ids"], stored["numeric"], json.loads(str(stored["categories"])))
    made = _in_order(list(computed(read(folder), definition)))
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        texts = np.array(json.dumps(made.categories))
        np.savez(file, ids=made.ids, numeric=made.numeric, categories=texts)
    return made


def _in_order(parts: list[FeatureRows]) -> Made:
    ids = np.array([int(event) for part in parts for event in part.event_ids])
    order = np.argsort(ids)
    texts = [
        [text for part in parts for text in part.categories[i]]
        for i in range(len(parts[0].categories))
    ]
    return Made(
        ids[order],
        np.concatenate([part.numeric for part in parts])[order],
        [[column[place] for place in order.tolist()] for column in texts],
    )


def computed(recordings: Iterator[Recording], definition: Definition) -> Iterator[FeatureRows]:
    """Yield the feature rows of a recorded stream, as the two stages of one partition make them."""
    topics = Topics("handbook", definition.version)
    first, last = stages_of(definition, pipeline.events, pipeline.labels, topics)
    customers, terminals, output = first.engine(), last.engine(), StageOutput(first)
    events_at = labels_at = 0
    for recording in recordings:
        for start in range(0, len(recording), BATCH):
            part = slice(start, start + BATCH)
            is_label, times = recording.is_label[part], recording.timestamps_ms[part]
            keys, values = recording.keys[part], recording.values[part]
            events = _batch(first.input, times, keys, values, ~is_label, events_at)
            labels = _batch(topics.labels, times, keys, values, is_label, labels_at)
            processed = customers.process(events)
            made, _ = output.of(processed, events)
            rekeyed = LogBatch(
                last.input, 0, events.offsets[processed.places],
                events.timestamps_ms[processed.places],
                [text.encode() for text in processed.next_entities], list(made),
                events.next_offset,
            )  # fmt: skip
            seen = seen_by_time(
                rekeyed.timestamps_ms, labels.timestamps_ms, labels.offsets, labels_at
            )
            yield terminals.process(rekeyed, labels, seen).rows
            events_at, labels_at = events.next_offset, labels.next_offset


def _batch(
    topic: str,
    times_ms: NDArray[np.int64],
    keys: list[bytes | None],
    values: list[bytes],
    wanted: NDArray[np.bool_],
    first: int,
) -> LogBatch:
    places = np.flatnonzero(wanted).tolist()
    return LogBatch(
        topic, 0, np.arange(first, first + len(places)), times_ms[wanted],
        [keys[i] for i in places], [values[i] for i in places], first + len(places),
    )  # fmt: skip
