"""Which features offsets an experiment answered: a function of the control log.

Of a partition the routing at an offset is that of the last ``Activated`` of the live path in the
log whose position is not beyond it (:class:`streams.wire.Activated`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streams.rollout import Rollout
from streams.wire import Activated, ExperimentStarted, ModelEvent, Routing

OPEN_END = 2**62
"""The end of a span that still goes on."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Spans:
    """Partition of the features topic → [first, end) offsets that the experiment answered."""

    of: Mapping[int, list[tuple[int, int]]] = field(default_factory=dict)

    def within(self, partitions: Ints, offsets: Ints) -> NDArray[np.bool_]:
        """Return which records (n,) it answered."""
        found = np.zeros(len(offsets), bool)
        for partition, spans in self.of.items():
            for first, end in spans:
                found |= (partitions == partition) & (offsets >= first) & (offsets < end)
        return found

    def before(self, partitions: Ints, offsets: Ints) -> NDArray[np.bool_]:
        """Return which records (n,) came before it began; of partitions where it never did, none:
        their entities may have been counted already."""
        found = np.zeros(len(offsets), bool)
        for partition, spans in self.of.items():
            found |= (partitions == partition) & (offsets < spans[0][0])
        return found

    def open_in(self) -> list[int]:
        """Return the partitions in which it still answers."""
        return sorted(p for p, spans in self.of.items() if spans[-1][1] == OPEN_END)


def spans_of(events: Iterable[ModelEvent], started: ExperimentStarted) -> Spans:
    """Return what the experiment answered, of all ``events`` of the control log in order."""
    cuts: dict[int, list[tuple[int, bool]]] = {}
    rollout = Rollout()
    for event in events:
        rollout = rollout.apply(event)
        if not isinstance(event, Activated) or event.stage == "shadow" or event.routing is None:
            continue
        if definition_of(rollout, event) not in (None, started.definition):
            continue
        obeys = is_of(event.routing, started)
        for partition, offset in event.positions.items():
            row = cuts.setdefault(int(partition), [])
            while row and row[-1][0] >= offset:
                row.pop()
            row.append((offset, obeys))
    return Spans({p: found for p, row in cuts.items() if (found := _spans(row))})


def is_of(routing: Routing, started: ExperimentStarted) -> bool:
    """Whether a routing is that of the experiment."""
    return routing.salt == started.salt and routing.arms == started.arms


def definition_of(rollout: Rollout, event: Activated) -> int | None:
    """Return of which definition's features the positions are; None where nothing tells: of
    records of the past whose version is the prior."""
    if event.definition is not None:
        return event.definition
    registered = rollout.versions.get(event.version)
    return None if registered is None else registered.definition


def _spans(row: list[tuple[int, bool]]) -> list[tuple[int, int]]:
    ends = [offset for offset, _ in row[1:]] + [OPEN_END]
    found: list[tuple[int, int]] = []
    for (first, obeys), end in zip(row, ends, strict=True):
        if obeys and found and found[-1][1] == first:
            found[-1] = (found[-1][0], end)
        elif obeys:
            found.append((first, end))
    return found
