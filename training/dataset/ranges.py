"""Which stretches of the log a training reads, by the log's own time index."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from kafka import TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError

from streams.errors import BrokerError, TrainingError
from streams.replay import offset_bounds, offsets_at
from streams.topics import Topics, connect_admin
from training.dataset.manifest import ReadRange


def find_ranges(
    bootstrap: str, topics: Topics, partitions: int, since_ms: int | None
) -> tuple[ReadRange, ReadRange]:
    """Return the offset ranges of features and labels that can hold what a training may use.

    Both begin at the first record of ``since_ms`` or later (no label precedes its event) and end
    where the topics end now. The time index can't tell the end: it finds the *first* record of a
    time, and one record with a wrong clock would hide all that follow it. See :func:`trimmed`.
    """
    found = []
    for topic in (topics.features, topics.labels):
        bounds = offset_bounds(bootstrap, topic, partitions)
        if since_ms is not None:
            firsts = offsets_at(bootstrap, topic, partitions, max(0, since_ms))
            bounds = {p: (firsts[p], max(firsts[p], bounds[p][1])) for p in bounds}
        found.append(ReadRange(topic, bounds))
    return found[0], found[1]


def trimmed(wanted: ReadRange, tables: Iterable[pa.Table], before_ms: int) -> ReadRange:
    """Return the range that ends after the last record of before ``before_ms``.

    ``tables`` are the rows of ``wanted``, with ``partition``, ``offset``, ``event_time_ms`` and,
    for labels, ``valid``. What is cut off can't count; so a run that begins later, when the log is
    longer, has the same ranges.
    """
    ends = {p: first for p, (first, _) in wanted.offsets.items()}
    for table in tables:
        counts = table["event_time_ms"].to_numpy() < before_ms
        if "valid" in table.column_names:
            counts &= table["valid"].to_numpy()
        offsets = table["offset"].to_numpy()[counts]
        partitions = table["partition"].to_numpy()[counts]
        for p in np.unique(partitions).tolist():
            ends[p] = max(ends[p], int(offsets[partitions == p].max()) + 1)
    return ReadRange(
        wanted.topic, {p: (first, ends[p]) for p, (first, _) in wanted.offsets.items()}
    )


def newest_time_ms(bootstrap: str, topics: Topics, partitions: int) -> int:
    """Return the newest event time among features and labels, milliseconds since the epoch.

    Raises:
        TrainingError: both topics are empty.
        BrokerError: Kafka does not answer.
    """
    wanted = {
        TopicPartition(topic, p): OffsetSpec.MAX_TIMESTAMP
        for topic in (topics.features, topics.labels)
        for p in range(partitions)
    }
    admin = connect_admin(bootstrap)
    try:
        found = admin.list_partition_offsets(wanted)
    except KafkaError as error:
        raise BrokerError(f"the ends of {topics.name}'s log can't be read: {error}") from error
    finally:
        admin.close()
    newest = max(int(at.timestamp) for at in found.values())
    if newest < 0:
        raise TrainingError(
            f"there is nothing to learn from: {topics.features} and {topics.labels} are empty; "
            "run `kappa produce` and `kappa up` first"
        )
    return newest
