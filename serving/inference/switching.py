"""How the holder of a partition answers an order of another definition.

Between two batches, when all that was taken is committed, it names the first offset that is left to
the new definition: of its own partition the one behind the last event answered, or, where the
events are spread over the partitions, the ends of the events topic, before which all that was
answered stands. The record goes into the transaction that commits the position with the order's
number, so whoever takes the partition over knows of both or of neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog
from kafka.protocol.consumer.offsets import IsolationLevel

from serving.inference.announcing import control_records
from serving.inference.reading import Reading
from serving.inference.stretches import NOTHING_ANSWERED, Outgoing, Place, Position
from serving.inference.transaction import TransactionalHop
from streams.cutover import Cutovers
from streams.errors import ConfigurationError
from streams.positions import PositionReader
from streams.topics import Topics
from streams.wire import DefinitionActivated, DefinitionChanged, Positions

_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Said:
    """What is said to orders: the events, as records of the control log, and the positions that
    commit with them."""

    events: list[DefinitionActivated]
    outgoing: Outgoing
    reached: dict[Place, Position]


@dataclass
class Switch:
    """Makes the answers of ``worker``; ``partitions`` is how many the events topic has."""

    bootstrap: str
    topics: Topics
    partitions: int
    worker: str
    _told: set[int] = field(default_factory=set)

    def answers(
        self,
        reading: Reading,
        hop: TransactionalHop,
        is_ready: Callable[[int, int], bool] = lambda *_: True,
    ) -> Said:
        """Return what is to be said now to the orders that are due.

        ``is_ready(definition, partition)`` says whether the partition can be answered from it at
        once; where not, the order stays due and the former goes on.

        Raises:
            BrokerError: the ends of the events topic can't be read.
        """
        events: list[DefinitionActivated] = []
        reached: dict[Place, Position] = {}
        for partition in hop.held:
            order = reading.cutovers.due(partition)
            if order is None or reading.cutovers.held(partition):
                continue
            if order.definition not in reading.sources:
                self._tell(order)
                continue
            place = reading.current(partition)
            at = hop.positions.get(place)
            if at is None:
                continue  # it is not read yet, so where it stands may be unsettled
            if not is_ready(order.definition, partition):
                continue
            positions = self._positions(order, partition, at)
            events.append(
                DefinitionActivated(
                    order.change, order.definition, partition, positions, self.worker
                )
            )
            reached[place] = replace(at, change=order.change)
            _LOG.info("definition switches", definition=order.definition, since=positions)
        return Said(events, control_records(self.topics.models, events), reached)

    def _positions(self, order: DefinitionChanged, partition: int, at: Position) -> Positions:
        unknown = at.answered == NOTHING_ANSWERED and at.next_offset > 0
        if order.together or unknown:  # unknown: another tool has set the group's offsets
            topic = self.topics.events
            reader = PositionReader(self.bootstrap)
            try:
                ends = reader.ends({topic: self.partitions}, IsolationLevel.READ_UNCOMMITTED)[topic]
            finally:
                reader.close()
            named = {p: end for p, end in ends.items() if order.together or p == partition}
        else:
            named = {partition: at.answered + 1}
        stated = order.at or {}
        return {str(p): max(offset, stated.get(str(p), 0)) for p, offset in sorted(named.items())}

    def _tell(self, order: DefinitionChanged) -> None:
        if order.change not in self._told:
            self._told.add(order.change)
            _LOG.error(
                "a cut-over waits for this worker, whose pipeline file lacks the definition",
                definition=order.definition,
                fix="declare it, as Pipeline(features=(...)), and start the worker again",
            )


def check_first(bootstrap: str, topics: Topics, group: str, cutovers: Cutovers, first: int) -> None:
    """Raise ConfigurationError where ``group`` has answered from another definition than the
    ``first`` without an order: it would begin anew, and answer everything twice."""
    if cutovers.orders:
        return
    reader = PositionReader(bootstrap)
    try:
        read = reader.committed(group)
    finally:
        reader.close()
    prefix = f"{topics.name}.features.v"
    begun = {int(topic.removeprefix(prefix)) for topic in read if topic.startswith(prefix)}
    if begun and first not in begun:
        answered = min(begun)
        raise ConfigurationError(
            f"{group} has answered from the features of definition v{answered}, and the pipeline "
            f"file declares v{first} as the first: declare v{answered} before it, as "
            f"features=(...), and switch by `kappa cutover v{first}`"
        )
