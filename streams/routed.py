"""Which version had to answer which features: recomputed from what the workers announced.

Of a partition of a definition's features, the routing that answered offset o is that of the last
``Activated`` in the log whose position there is ≤ o; before all of them it is the prior.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.assignment import versions_of
from streams.rollout import Rollout
from streams.wire import Activated, ModelEvent, Routing

UNKNOWN = -1
"""Which version had to answer is not to be told: the record is of a time before routings."""

PRIOR = Routing(0)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Offsets [first, end) that one routing answered; no end: up to now. Not ``exact`` where the
    record says no routing."""

    first: int
    end: int | None
    routing: Routing
    exact: bool = True


class Routed:
    """The routings of all partitions, by definition."""

    def __init__(self) -> None:
        self._begun: dict[tuple[int, int], list[tuple[int, Routing, bool]]] = {}
        self._rollout = Rollout()

    @classmethod
    def of(cls, events: Iterable[ModelEvent]) -> Routed:
        """Return what a control log tells, in its order."""
        routed = cls()
        for event in events:
            routed.follow(event)
        return routed

    def follow(self, event: ModelEvent) -> None:
        """Take in what the log says next."""
        self._rollout = self._rollout.apply(event)
        if not isinstance(event, Activated) or event.stage != "live":
            return
        registered = self._rollout.versions.get(event.version)
        definition = event.definition or (registered.definition if registered else None)
        if definition is None:
            return
        for partition, first in event.positions.items():
            if partition.isdecimal():
                begun = self._begun.setdefault((definition, int(partition)), [])
                if event.routing is None and begun and begun[-1][0] > first:
                    continue  # records of the past repeated what they had said
                while begun and begun[-1][0] >= first:
                    begun.pop()
                routing = event.routing or Routing(event.version)
                begun.append((first, routing, event.routing is not None))

    def stretches(self, definition: int, partition: int) -> list[Stretch]:
        """Return who answered which features offsets of a partition, ascending, without gaps."""
        begun = self._begun.get((definition, partition), [])
        if not begun or begun[0][0] > 0:
            begun = [(0, PRIOR, True), *begun]
        ends: list[int | None] = [first for first, _, _ in begun[1:]]
        return [
            Stretch(first, end, routing, exact)
            for (first, routing, exact), end in zip(begun, [*ends, None], strict=True)
        ]

    def routing_at(self, definition: int, partition: int, offset: int) -> Stretch:
        """Return who answered a features offset."""
        stretches = self.stretches(definition, partition)
        return next(s for s in reversed(stretches) if s.first <= offset)

    def versions_at(
        self,
        definition: int,
        partition: int,
        offsets: NDArray[np.int64],
        entities: Sequence[str],
    ) -> NDArray[np.int64]:
        """Return the versions that had to answer features at offsets (n,) of entities, (n,);
        :data:`UNKNOWN` where that is not to be told. Only where arms answered, ids are hashed."""
        versions = np.empty(len(offsets), np.int64)
        stretches = self.stretches(definition, partition)
        numbers = np.searchsorted([s.first for s in stretches], offsets, side="right") - 1
        for number in np.unique(numbers).tolist():
            stretch, rows = stretches[number], np.flatnonzero(numbers == number)
            if not stretch.exact:
                versions[rows] = UNKNOWN
            elif stretch.routing.arms:
                here = [entities[row] for row in rows.tolist()]
                versions[rows] = versions_of(stretch.routing, here)
            else:
                versions[rows] = stretch.routing.live
        return versions

    def partitions(self, definition: int) -> list[int]:
        """Return the partitions of which anything is said."""
        return sorted(p for d, p in self._begun if d == definition)
