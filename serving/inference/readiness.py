"""Having histories at hand before a model that needs them answers, so that nobody waits for it.

A version that comes live, or a definition that is ordered, in the middle of a run has what it needs
loaded beside; until then the one before goes on answering. What answers without that (after a
start, or where another worker's partition has come) loads as it answers, and gives the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from serving.inference.answers import last_of
from serving.inference.histories import HistoryKeeper
from serving.inference.reading import Reading
from serving.inference.router import Role, Router
from serving.inference.stretches import Place, Position
from serving.inference.transaction import TransactionalHop


class Readiness:
    """Says what can be answered at once; ``versions`` is features topic → definition."""

    def __init__(
        self,
        histories: HistoryKeeper,
        router: Router,
        reading: Reading,
        hop: TransactionalHop,
        versions: Mapping[str, int],
        role: Role,
    ) -> None:
        self._histories, self._router, self._hop = histories, router, hop
        self._reading, self._versions = reading, versions
        self._assignments = hop.assignments
        if role == "inference":  # a shadow has to answer from a stated offset on: it waits
            router.is_ready = self._is_ready

    def prepare(self) -> None:
        """Load beside what a version waits for; drop what none needs."""
        router = self._router
        router.refresh()
        for definition, last in router.waiting.items():
            targets = {place: partial(self._position, place) for place in self._places(definition)}
            self._histories.prepare(targets, last)
        if not self._hop.held and self._hop.assignments == self._assignments:
            return  # between a commit that failed and the next assignment: they may come back
        self._assignments = self._hop.assignments
        depths = {
            topic: max(self._depth(definition), router.waiting.get(definition, 0))
            for topic, definition in self._versions.items()
        }
        self._histories.keep(depths, self._hop.held)

    def can_begin(self, definition: int, partition: int) -> bool:
        """Whether a definition that is ordered can be answered from without reading its past."""
        last = self._depth(definition)
        place = (self._reading.sources[definition].topic, partition)
        if not last or self._histories.is_ready([place], last):
            return True
        self._histories.prepare({place: partial(self._entry, definition, partition)}, last)
        return False

    def _is_ready(self, definition: int, last: int) -> bool:
        return self._histories.is_ready(self._places(definition), last)

    def _places(self, definition: int) -> list[Place]:
        return [at for at in self._hop.positions if self._versions[at[0]] == definition]

    def _depth(self, definition: int) -> int:
        models = self._router.of(definition)
        return max((last_of(chosen.predict) for chosen in models), default=0)

    # --- up to where is loaded; asked in the thread that loads -----------------------------------

    def _position(self, place: Place) -> int:
        return self._hop.positions.get(place, Position(0)).next_offset

    def _entry(self, definition: int, partition: int) -> int:
        at = self._hop.positions.get(self._reading.current(partition), Position(0))
        return self._reading.entry(definition, partition, dict(self._hop.committed), at.answered)
