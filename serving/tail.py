"""The newest predictions, and those that come: what a reader of the log sees of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import msgspec

from serving.monitoring.log_reader import LogReader
from streams.batch import LogBatch
from streams.replay import offset_bounds, read_ranges
from streams.wire import Prediction

POLL_S = 0.5
# Reading by assign joins no group; the name only shows in the broker's metrics.
GROUP = "kappa-predictions"

_decode = msgspec.json.Decoder(Prediction).decode


def newest_predictions(
    bootstrap: str, topic: str, partitions: int, limit: int | None
) -> list[Prediction]:
    """Return the last ``limit`` committed predictions (all where None), by event time.

    Raises:
        BrokerError: the broker can't be reached.
    """
    bounds = offset_bounds(bootstrap, topic, partitions)
    span = max((end - first for first, end in bounds.values()), default=0)
    reach = span if limit is None else limit
    while True:
        ranges = {p: (max(first, end - reach), end) for p, (first, end) in bounds.items()}
        found = [p for batch in read_ranges(bootstrap, topic, ranges) for p in decoded(batch)]
        # Control records take offsets too, so a stretch may hold fewer predictions than offsets.
        if reach >= span or (limit is not None and _covered(found, partitions, limit)):
            break
        reach *= 2
    found.sort(key=lambda p: (p.event_time_ms, p.source.partition, p.source.offset))
    return found if limit is None else found[len(found) - limit :] if len(found) > limit else found


def coming_predictions(
    bootstrap: str, topic: str, partitions: int, limit: int | None
) -> Iterator[list[Prediction]]:
    """Return an iterator over what is committed from this call on, ``limit`` predictions in all.

    Raises:
        BrokerError: the broker can't be reached.
    """
    start = {p: end for p, (_, end) in offset_bounds(bootstrap, topic, partitions).items()}
    return _coming(LogReader(bootstrap, topic, GROUP, partitions, start), limit)


def _coming(opened: LogReader, limit: int | None) -> Iterator[list[Prediction]]:
    left = limit
    with closing(opened) as reader:
        while left is None or left > 0:
            came = [p for batch in reader.poll(POLL_S) for p in decoded(batch)][:left]
            left = None if left is None else left - len(came)
            if came:
                yield came


def decoded(batch: LogBatch) -> list[Prediction]:
    """Return the predictions of a stretch of the predictions or the shadow topic."""
    return [_decode(value) for value in batch.values if value is not None]


def _covered(found: list[Prediction], partitions: int, limit: int) -> bool:
    """Whether the newest ``limit`` of each partition are there, hence the newest of all."""
    per_partition = [0] * partitions
    for prediction in found:
        per_partition[prediction.source.partition] += 1
    return min(per_partition) >= limit
