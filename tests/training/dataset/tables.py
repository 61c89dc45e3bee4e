"""Feature and label tables as segments give them, made of numbers."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

STEP_MS = 1000


def feature_tables(
    rows: int, partitions: int, per_table: int, numeric: int = 2, seed: int = 0
) -> Iterator[pa.Table]:
    """Yield the features of ``rows`` events, event i at i steps in partition i mod ``partitions``.

    ``numeric`` columns of noise, of which every seventh value is missing; two categories, a group.
    """
    for partition in range(partitions):
        numbers = np.arange(partition, rows, partitions)
        for begin in range(0, len(numbers), per_table):
            some = numbers[begin : begin + per_table]
            rng = np.random.default_rng([seed, partition, begin])
            values = rng.normal(size=(numeric, len(some)))
            values[:, some % 7 == 0] = np.nan
            yield pa.table(
                {
                    "offset": pa.array(begin + np.arange(len(some))),
                    "partition": pa.array(np.full(len(some), partition, np.int32)),
                    "source_offset": pa.array(begin + np.arange(len(some))),
                    "event_id": pa.array([f"event-{i}" for i in some]),
                    "entity": pa.array([f"entity-{i % 50}" for i in some]),
                    "event_time_ms": pa.array(some * STEP_MS),
                    **{f"f.x{i}": pa.array(column) for i, column in enumerate(values)},
                    "c.kind": pa.array([f"kind {i % 5}" for i in some]),
                    "c.shop": pa.array(["" if i % 11 == 0 else f"é{i % 300}" for i in some]),
                    "g.town": pa.array([f"town {i % 3}" for i in some]),
                }
            )


def label_tables(rows: int, per_table: int) -> Iterator[pa.Table]:
    """Yield a label per event, one in ten positive, known with the event."""
    for begin in range(0, rows, per_table):
        some = np.arange(begin, min(rows, begin + per_table))
        yield pa.table(
            {
                "offset": pa.array(some),
                "partition": pa.array(np.zeros(len(some), np.int32)),
                "valid": pa.array(np.ones(len(some), dtype=bool)),
                "event_id": pa.array([f"event-{i}" for i in some]),
                "event_time_ms": pa.array(some * STEP_MS),
                "target": pa.array((some % 10 == 3).astype(np.float64)),
            }
        )
