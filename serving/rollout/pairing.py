"""Finding the two answers to one event: the live version's, and the one in shadow."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.rollout.rows import Rows

WAITING = 50_000
"""Answers of each side that wait for the other's; of more, the oldest are given up."""

Ints = NDArray[np.int64]
_PARTITION = 48  # bits of an offset below it


def keys_of(partitions: Ints, offsets: Ints) -> Ints:
    """Return a number for each place in the features topic, (n,)."""
    return (partitions << _PARTITION) | offsets


@dataclass(slots=True)
class Pairing:
    """What waits: key of the event → the answer, as a row of numbers."""

    live: dict[int, list[float]] = field(default_factory=dict)
    challenger: dict[int, list[float]] = field(default_factory=dict)

    def match(
        self, keys: Ints, is_challenger: NDArray[np.bool_], rows: Rows
    ) -> tuple[Rows, Rows] | None:
        """Take answers of both sides in the order of the log, (n,); return the challenger's and the
        live version's of the events that have both now. None where there are none."""
        pairs: list[tuple[list[float], list[float]]] = []
        answers = zip(keys.tolist(), is_challenger.tolist(), rows.to_matrix().tolist(), strict=True)
        for key, from_challenger, row in answers:
            mine, others = (
                (self.challenger, self.live) if from_challenger else (self.live, self.challenger)
            )
            other = others.pop(key, None)
            if other is None:
                mine[key] = row
                if len(mine) > WAITING:
                    del mine[next(iter(mine))]
            else:
                pairs.append((row, other) if from_challenger else (other, row))
        if not pairs:
            return None
        challenger, live = zip(*pairs, strict=True)
        return _rows(challenger), _rows(live)


def _rows(lists: Sequence[list[float]]) -> Rows:
    return Rows.from_matrix(np.array(lists, np.float64))
