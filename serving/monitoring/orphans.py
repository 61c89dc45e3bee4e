"""Labels that find no event: how long they wait, and which they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Orphan:
    """A label that no prediction can answer any more, and where it stands in the labels topic."""

    event_id: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a label waits for its event: to the end of the step that holds ``grace_ms`` after
    its own time; steps are ``step_ms`` long."""

    step_ms: int
    grace_ms: int

    def up_at(self, label_times_ms: Ints) -> Ints:
        """Return when the labels' time is up, (n,): at the end of a step, when it closes.

        >>> Patience(10, 20).up_at(np.array([200, 201])).tolist()
        [220, 230]
        """
        late: Ints = label_times_ms + self.grace_ms
        return -(-late // self.step_ms) * self.step_ms


def orphans_of(
    lost: Ints, rows: Mapping[str, int], partitions: NDArray[np.int32], offsets: Ints
) -> list[Orphan]:
    """Return the orphans in the ``lost`` rows, by partition and offset; ``rows`` are the rows of
    the ids, ``partitions`` and ``offsets`` those of the labels, by row."""
    if not len(lost):
        return []
    wanted = set(lost.tolist())
    found = [
        Orphan(event_id, int(partitions[row]), int(offsets[row]))
        for event_id, row in rows.items()
        if row in wanted
    ]
    return sorted(found, key=lambda orphan: (orphan.partition, orphan.offset))
