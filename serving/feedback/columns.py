"""What is kept of an answer until its label comes: one row of an array, no Python object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.wire import Stage

NONE = -1
STAGES: tuple[Stage, ...] = (
    "live", "canary", "experiment", "shadow", "retired", "rolled_back",
)  # fmt: skip
STAGE_NUMBERS = {stage: number for number, stage in enumerate(STAGES)}

Rows = NDArray[Any]


def answer_type(extra: int) -> np.dtype[Any]:
    """Return the type of a row that waits: 77 bytes, and 8 for each of ``extra`` numbers.

    ``event``, ``entity`` and ``own_id`` are numbers of texts; ``own_id`` is :data:`NONE` where the
    prediction's id says the place of its feature record. ``next`` is the next row of the event.
    ``extra`` are the probabilities of the classes, or the spread; NaN where the answer has none.
    """
    return np.dtype(
        [
            ("score", "f8"), ("event_time_ms", "i8"), ("source_offset", "i8"),
            ("features_offset", "i8"), ("latency_ms", "i8"), ("event", "i4"), ("entity", "i4"),
            ("own_id", "i4"), ("next", "i4"), ("version", "i4"), ("definition", "i4"),
            ("partition", "i4"), ("source_partition", "i4"), ("features_partition", "i4"),
            ("stage", "u1"), ("extra", "f8", (extra,)),
        ]
    )  # fmt: skip


def event_type(groups: int) -> np.dtype[Any]:
    """Return the type of an event's row: 49 bytes, and 4 for each of ``groups``.

    ``head`` is the first answer that waits, ``time_ms`` the event's; a group that is not known yet
    is :data:`NONE`.
    """
    return np.dtype(
        [
            ("label", "f8"), ("label_time_ms", "i8"), ("label_offset", "i8"), ("time_ms", "i8"),
            ("label_partition", "i4"), ("head", "i4"), ("flags", "u1"), ("groups", "i4", (groups,)),
        ]
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answered:
    """n answers as they are read: texts, and rows whose numbers of texts are not set yet.

    ``own_ids`` has the ids that do not follow from the rows; None where all do.
    """

    event_ids: Sequence[str]
    entities: Sequence[str]
    own_ids: Sequence[str] | None
    rows: Rows

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Matched:
    """n answers with their labels, in the order of being matched; all columns have length n.

    ``groups`` (n, G) are numbers of texts in the fields' order, :data:`NONE` where the answer's
    definition does not declare the field.
    """

    event_ids: list[str]
    entities: list[bytes]
    own_ids: list[str | None]
    rows: Rows
    labels: NDArray[np.float64]
    label_times_ms: NDArray[np.int64]
    label_partitions: NDArray[np.int64]
    label_offsets: NDArray[np.int64]
    groups: NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self.rows)

    def only(self, chosen: NDArray[np.bool_]) -> Matched:
        """Return those where ``chosen`` (n,) holds."""
        if chosen.all():
            return self
        keep = chosen.tolist()
        return Matched(
            list(compress(self.event_ids, keep)),
            list(compress(self.entities, keep)),
            list(compress(self.own_ids, keep)),
            self.rows[chosen],
            self.labels[chosen],
            self.label_times_ms[chosen],
            self.label_partitions[chosen],
            self.label_offsets[chosen],
            self.groups[chosen],
        )
