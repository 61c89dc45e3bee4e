"""The newest records of a topic, and those that come: what a reader of the log sees of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TypeVar

import msgspec

from serving.monitoring.log_reader import LogReader
from streams.batch import LogBatch
from streams.replay import offset_bounds, read_ranges
from streams.wire import Prediction

POLL_S = 0.5
# Reading by assign joins no group; the name only shows in the broker's metrics.
GROUP = "kappa-predictions"

T = TypeVar("T")
Decode = Callable[[LogBatch], list[T]]

_decode = msgspec.json.Decoder(Prediction).decode


def newest_predictions(
    bootstrap: str, topic: str, partitions: int, limit: int | None
) -> list[Prediction]:
    """Return the last ``limit`` committed predictions (all where None), by event time.

    Raises:
        BrokerError: the broker can't be reached.
    """
    found = newest_records(bootstrap, topic, partitions, limit, decoded)
    found.sort(key=lambda p: (p.event_time_ms, p.source.partition, p.source.offset))
    return found if limit is None else found[max(0, len(found) - limit) :]


def newest_records(
    bootstrap: str, topic: str, partitions: int, limit: int | None, decode: Decode[T]
) -> list[T]:
    """Return the last ``limit`` committed records of each partition (all where None), and perhaps
    more, partition after partition; raises BrokerError."""
    bounds = offset_bounds(bootstrap, topic, partitions)
    span = max((end - first for first, end in bounds.values()), default=0)
    reach = span if limit is None else limit
    while True:
        ranges = {p: (max(first, end - reach), end) for p, (first, end) in bounds.items()}
        found: dict[int, list[T]] = {p: [] for p in range(partitions)}
        for batch in read_ranges(bootstrap, topic, ranges):
            found[batch.partition] += decode(batch)
        # Control records take offsets too, so a stretch may hold fewer records than offsets.
        covered = limit is not None and min(map(len, found.values())) >= limit
        if reach >= span or covered:
            return [each for records in found.values() for each in records]
        reach *= 2


def coming_predictions(
    bootstrap: str, topic: str, partitions: int, limit: int | None
) -> Iterator[list[Prediction]]:
    """Return an iterator over what is committed from this call on, ``limit`` predictions in all.

    Raises:
        BrokerError: the broker can't be reached.
    """
    return coming_records(bootstrap, topic, partitions, limit, decoded)


def coming_records(
    bootstrap: str, topic: str, partitions: int, limit: int | None, decode: Decode[T]
) -> Iterator[list[T]]:
    """Return an iterator over what is committed from this call on, ``limit`` records in all;
    raises BrokerError."""
    start = {p: end for p, (_, end) in offset_bounds(bootstrap, topic, partitions).items()}
    return _coming(LogReader(bootstrap, topic, GROUP, partitions, start), limit, decode)


def _coming(opened: LogReader, limit: int | None, decode: Decode[T]) -> Iterator[list[T]]:
    left = limit
    with closing(opened) as reader:
        while left is None or left > 0:
            came = [p for batch in reader.poll(POLL_S) for p in decode(batch)][:left]
            left = None if left is None else left - len(came)
            if came:
                yield came


def decoded(batch: LogBatch) -> list[Prediction]:
    """Return the predictions of a stretch of the predictions or the shadow topic."""
    return [_decode(value) for value in batch.values if value is not None]
