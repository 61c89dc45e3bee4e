"""An entity's last events: which rows they are, in training and in serving alike. numpy only.

A network that sees the last L events gets, for the event at hand, the L newest feature records of
its entity that stand not after it in the features log of its partition: the event itself last. The
order is that of the log. A record counts where its source offset exceeds all those before it in
the partition, so what a crash made the feature stage write again counts once. So a history is a
function of the features log alone.

Training sorts all events by partition and entity, in log order: a history then is a stretch of
rows that ends with the event. Serving keeps the rows that later events may need, linked from each
event to the one before it (:mod:`serving.inference.entity_events`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from training.dataset.prepared import Columns

Number = TypeVar("Number", np.float32, np.float64, np.int32, np.int64)

NONE = -1


@dataclass(frozen=True, slots=True)
class EventValues:
    """Feature values of m events, as :class:`training.dataset.prepared.Columns`."""

    numeric: NDArray[np.float64]
    categories: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Histories:
    """n histories, their events told once.

    ``events`` are m of them; ``index`` (n, K) holds rows of it: the event at hand in column K − 1,
    the entity's event before it in K − 2 and so on, −1 where there is none. A network that sees
    L ≤ K events takes the last L columns.
    """

    events: Columns
    index: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of histories."""
        return len(self.index)


@dataclass(frozen=True, slots=True)
class Stretches:
    """The events that count, by partition, entity and place in the log.

    ``order`` (m,) are their rows in the log; ``firsts`` (m,) say where in ``order`` the entity of
    each begins; ``places`` (rows of the log,) where in ``order`` a row stands, −1 for one that
    does not count.
    """

    order: NDArray[np.int64]
    firsts: NDArray[np.int64]
    places: NDArray[np.int64]

    def lengths(self, places: NDArray[np.int64], last: int) -> NDArray[np.int64]:
        """Return how many events the histories of the events at ``places`` hold: 1 to ``last``."""
        found: NDArray[np.int64] = np.minimum(places - self.firsts[places] + 1, last)
        return found


def stretches(
    partitions: NDArray[np.int64], sources: NDArray[np.int64], entities: NDArray[np.int64]
) -> Stretches:
    """Return the order of n rows of the log.

    Args:
        partitions: (n,), ascending: rows come in log order.
        sources: (n,) source offsets.
        entities: (n,) a number per entity, 0 or more.
    """
    rows = np.flatnonzero(_counting(partitions, sources))
    of, entity = partitions[rows], entities[rows]
    by_entity = np.lexsort((entity, of))  # stable: the log's order stays within an entity
    of, entity = of[by_entity], entity[by_entity]
    order = rows[by_entity]
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (np.diff(of) != 0) | (np.diff(entity) != 0)
    firsts = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    places = np.full(len(partitions), NONE, dtype=np.int64)
    places[order] = np.arange(len(order))
    return Stretches(order, firsts, places)


@dataclass(frozen=True, slots=True)
class HistoryInputs:
    """The histories of n examples of a slice, each a stretch of the sorted events.

    ``numeric`` (m, W) and ``codes`` (m, C) are those of all events; ``rows`` (n,) the examples' own
    among them, ``lengths`` (n,) how many events their histories hold, ``last`` at most.
    """

    numeric: NDArray[np.float32]
    codes: NDArray[Any]
    rows: NDArray[np.int64]
    lengths: NDArray[np.int64]
    last: int

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.rows)

    def take(self, rows: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """Return numeric (b, L, W) float32, codes (b, L, C) int64 and lengths (b,) int64."""
        ends, lengths = self.rows[rows], self.lengths[rows]
        numeric = windows(self.numeric, ends, lengths, self.last)
        codes = windows(self.codes, ends, lengths, self.last)
        return numeric, codes.astype(np.int64, copy=False), lengths


def windows(
    array: NDArray[Number], rows: NDArray[np.int64], lengths: NDArray[np.int64], last: int
) -> NDArray[Number]:
    """Return the histories (n, last, W) that end at ``rows`` of ``array`` (m, W).

    The event itself stands at last − 1; what lies before the ``lengths`` (n,) events is zero.
    """
    steps = np.arange(last)
    found: NDArray[Number] = array[np.maximum(rows[:, None] + (steps - (last - 1)), 0)]
    found[steps < last - lengths[:, None]] = 0
    return found


def _counting(partitions: NDArray[np.int64], sources: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows (n,) count: source offsets that exceed all before in the partition."""
    counting = np.ones(len(sources), dtype=bool)
    bounds = [0, *(np.flatnonzero(np.diff(partitions)) + 1).tolist(), len(sources)]
    for begin, end in pairwise(bounds):
        newest = np.maximum.accumulate(sources[begin:end])
        counting[begin + 1 : end] = newest[1:] > newest[:-1]
    return counting
