"""The newest outcomes, and those that come."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from serving.tail import coming_records, newest_records
from streams.batch import LogBatch
from streams.wire import Outcome

_decode = msgspec.json.Decoder(Outcome).decode


def newest_outcomes(
    bootstrap: str, topic: str, partitions: int, limit: int | None
) -> list[Outcome]:
    """Return the last ``limit`` outcomes (all where None), by the times of their labels.

    Raises:
        BrokerError: the broker can't be reached.
    """
    found = newest_records(bootstrap, topic, partitions, limit, outcomes_of)
    found.sort(key=lambda o: (o.label_time_ms, o.event_time_ms, o.prediction_id))
    return found if limit is None else found[max(0, len(found) - limit) :]


def coming_outcomes(
    bootstrap: str, topic: str, partitions: int, limit: int | None
) -> Iterator[list[Outcome]]:
    """Return an iterator over what is committed from this call on; raises BrokerError."""
    return coming_records(bootstrap, topic, partitions, limit, outcomes_of)


def outcomes_of(batch: LogBatch) -> list[Outcome]:
    """Return the outcomes of a stretch of the outcomes topic."""
    return [_decode(value) for value in batch.values if value is not None]
