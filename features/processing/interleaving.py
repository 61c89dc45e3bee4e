"""How the labels of a partition stand among the records that a stage reads.

A stage that reads two logs makes another log of them, and its order must be known for good: each
record that the stage emits says up to where (next offset of the labels partition) the labels had
been applied. Two rules give that order:

- where records were emitted before (a restart, a replay), what they say: :class:`Interleaving`;
- where nobody has been yet: both logs are merged by record timestamp, :func:`seen_by_time`; of
  equal ones the label comes first, as in a recording (:mod:`streams.merging`). Each log keeps its
  own order, so a label with a time far ahead holds up those behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Interleaving:
    """What the records emitted so far say of one partition.

    From the stage's input offset ``starts[i]`` on, up to the next start, ``seen[i]`` was the next
    label offset; both (m,), ascending. ``end`` is behind the last input offset that a record is of.
    """

    starts: Ints
    seen: Ints
    end: int

    @classmethod
    def of_records(cls, stretches: Iterable[tuple[Ints, Ints]]) -> Interleaving:
        """Return what records say, given as (input offsets, label offsets), each of shape (n,).

        The order of the records does not matter: a repetition says what the first one says.
        """
        end = 0
        parts: list[tuple[Ints, Ints]] = []
        for offsets, seen in stretches:
            if len(offsets):
                end = max(end, int(offsets.max()) + 1)
                parts.append(_changes(offsets, seen))
        starts = np.concatenate([np.empty(0, np.int64), *(part[0] for part in parts)])
        seen = np.concatenate([np.empty(0, np.int64), *(part[1] for part in parts)])
        return cls(*_changes(starts, seen), end)

    def at(self, offsets: Ints) -> Ints:
        """Return what was seen at each of the input offsets, (n,); 0 before the first record."""
        place = np.searchsorted(self.starts, offsets, "right")
        return np.append(0, self.seen)[place]


NOTHING_RECORDED = Interleaving(np.empty(0, np.int64), np.empty(0, np.int64), 0)


def _changes(offsets: Ints, seen: Ints) -> tuple[Ints, Ints]:
    """Return the records, by offset, at which another label offset is seen than before."""
    order = np.argsort(offsets, kind="stable")
    offsets, seen = offsets[order], seen[order]
    new = np.append(True, seen[1:] != seen[:-1])[: len(seen)]
    return offsets[new], seen[new]


def seen_by_time(events_ms: Ints, labels_ms: Ints, label_offsets: Ints, first: int) -> Ints:
    """Return up to where labels are applied when each event is, next label offset, shape (n,).

    Args:
        events_ms: (n,) record timestamps of the events, in log order.
        labels_ms: (m,) of the labels that are not applied yet, in log order.
        label_offsets: (m,) their offsets.
        first: the label offset before which all are applied.

    >>> seen_by_time(np.array([5, 9, 7, 20]), np.array([5, 8, 3, 30]), np.array([2, 3, 4, 6]), 1)
    array([3, 5, 5, 5])
    """
    # The head of the labels waits for an event that is not earlier than itself. What waits is later
    # than any event so far, so the running maxima decide.
    heads = np.maximum.accumulate(labels_ms)
    passed = np.searchsorted(heads, np.maximum.accumulate(events_ms), "right")
    return np.append(first, label_offsets + 1)[passed]
