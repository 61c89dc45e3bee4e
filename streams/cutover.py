"""Which definition answers which event: a fold over the control log.

An order (``DefinitionChanged``) takes effect at an offset of each partition of the events topic.
The holders of the features' partitions answer it, each with one ``DefinitionActivated`` record that
is written in the transaction which commits its position: nothing at or behind the offsets it names
has been answered by then. An events partition switches at the greatest offset that was named for
it, by its own holder or, where the events of a partition are spread over all of the features
topic, by all holders; until the last has spoken nobody goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from streams.wire import DefinitionActivated, DefinitionChanged, Positions

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Span:
    """Events of one partition, offsets [first, end), that one definition answers; no end: all."""

    first: int
    end: int | None
    definition: int


@dataclass(frozen=True)
class Cutovers:
    """The orders in their order, and what the holders said: (change, partition) → positions."""

    orders: tuple[DefinitionChanged, ...] = ()
    said: dict[tuple[int, int], Positions] = field(default_factory=dict)

    def order(self, event: DefinitionChanged) -> Cutovers:
        """Return the state after an order; one that does not follow the last one is no order."""
        if event.change != len(self.orders) + 1:
            return self
        return replace(self, orders=(*self.orders, event))

    def activate(self, event: DefinitionActivated) -> Cutovers:
        """Return the state after a holder's answer; the first one counts."""
        key = (event.change, event.partition)
        if key in self.said:
            return self
        return replace(self, said={**self.said, key: event.positions})

    @property
    def definition(self) -> int | None:
        """The definition ordered last; None where there was no order."""
        return self.orders[-1].definition if self.orders else None

    def reached(self, partition: int) -> int:
        """Return the number of the last order that the partition's holder has answered."""
        change = 0
        while (change + 1, partition) in self.said:
            change += 1
        return min(change, len(self.orders))

    def due(self, partition: int) -> DefinitionChanged | None:
        """Return the order that the partition's holder has to answer next."""
        reached = self.reached(partition)
        return self.orders[reached] if reached < len(self.orders) else None

    def held(self, partition: int) -> bool:
        """Whether the partition's holder has to wait for what the other holders say."""
        reached = self.reached(partition)
        if reached == 0 or not self.orders[reached - 1].together:
            return False
        return not self._all_said(self.orders[reached - 1])

    def current(self, partition: int, first: int) -> int:
        """Return the definition that the features' partition is answered from now; ``first`` is
        the one that answers where there is no order."""
        reached = self.reached(partition)
        return self.orders[reached - 1].definition if reached else self.begins(first)

    def begins(self, first: int) -> int:
        """Return the definition before all orders; ``first`` where there is none."""
        return self.orders[0].before if self.orders else first

    def since(self, order: DefinitionChanged, partition: int) -> int | None:
        """Return the first offset of an events partition that the order is about, if decided."""
        if order.together:
            if not self._all_said(order):
                return None
            named = [self.said[order.change, p] for p in range(order.partitions)]
        elif (order.change, partition) in self.said:
            named = [self.said[order.change, partition]]
        else:
            return None
        return max([0, *(positions.get(str(partition), 0) for positions in named)])

    def undecided(self) -> list[int]:
        """Return the events partitions for which the last order has not taken effect yet."""
        if not self.orders:
            return []
        order = self.orders[-1]
        return [p for p in range(order.partitions) if self.since(order, p) is None]

    def spans(self, partition: int, first: int) -> list[Span]:
        """Return which definition answers which offsets of an events partition, ascending.

        An order that the next one overtakes at the same offset has no span.
        """
        starts = [(0, self.begins(first))]
        for order in self.orders:
            at = self.since(order, partition)
            if at is None:
                break
            at = max(at, starts[-1][0])
            while starts and starts[-1][0] >= at:
                starts.pop()
            if not starts or starts[-1][1] != order.definition:
                starts.append((at, order.definition))
        ends: list[int | None] = [at for at, _ in starts[1:]]
        pairs = zip(starts, [*ends, None], strict=True)
        return [Span(at, end, definition) for (at, definition), end in pairs]

    def definitions_at(self, partitions: Ints, offsets: Ints, first: int) -> Ints:
        """Return the definitions (n,) that answer the events at these places, each (n,)."""
        answering = np.full(len(offsets), self.begins(first), dtype=np.int64)
        if not self.orders:
            return answering
        for partition in np.unique(partitions).tolist():
            here = partitions == partition
            spans = self.spans(partition, first)
            starts = np.array([span.first for span in spans], dtype=np.int64)
            definitions = np.array([span.definition for span in spans], dtype=np.int64)
            answering[here] = definitions[np.searchsorted(starts, offsets[here], "right") - 1]
        return answering

    def ended(self, partition: int, first: int) -> dict[int, int]:
        """Return definition → offset of the events partition behind which it answers no more."""
        spans = self.spans(partition, first)
        last = spans[-1].definition
        ends = {span.definition: span.end for span in spans if span.end is not None}
        return {d: end for d, end in ends.items() if d != last}

    def switches(self) -> Iterator[tuple[DefinitionChanged, dict[int, int | None]]]:
        """Yield each order with partition → the offset at which it took effect, None before."""
        for order in self.orders:
            yield order, {p: self.since(order, p) for p in range(order.partitions)}

    def _all_said(self, order: DefinitionChanged) -> bool:
        return all((order.change, p) in self.said for p in range(order.partitions))
