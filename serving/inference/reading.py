"""What an answering worker reads for the partitions it holds, and which rows are its to answer.

Everything follows from the control log (:mod:`streams.cutover`) and the committed positions. A
partition is answered from its current definition. One that ended is read on up to the offset where
it ends, where that was stated ahead or its events are spread over the partitions; what a later turn
of it may claim is never passed. A definition that begins is read from its first offset on, which is
looked for in its topic. While a partition's holder waits for others to decide, nothing is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from features.definition import Definition
from features.records import FeatureRows
from serving.inference.stretches import Place, Position
from streams.cutover import Cutovers
from streams.errors import ConfigurationError
from streams.stream import EventStream, LabelStream
from streams.topics import Topics
from streams.wire import Positions

Find = Callable[[Place, int, int], int]
"""(place, source offset, offset) → where to read from, ``offset`` or later, so that no record
with that source offset or a later one is missed."""


@dataclass(frozen=True)
class Source:
    """A definition's features; ``rekeyed``: the events of a partition are spread over all."""

    definition: Definition
    topic: str
    rekeyed: bool


@dataclass
class Reading:
    """The plan; ``first`` is the definition that answers before any order."""

    sources: Mapping[int, Source]
    first: int
    find: Find
    cutovers: Cutovers = field(default_factory=Cutovers)
    _over: set[tuple[Place, int]] = field(default_factory=set)
    _seen: dict[Place, dict[int, int]] = field(default_factory=dict)
    _ends: dict[int, dict[int, int]] = field(default_factory=dict)

    def follow(self, cutovers: Cutovers) -> None:
        """Take over what the control log says by now."""
        if cutovers is not self.cutovers:
            self.cutovers = cutovers
            self._ends.clear()

    def wanted(
        self,
        held: Sequence[int],
        committed: Mapping[Place, Position],
        reading: Mapping[Place, Position],
    ) -> dict[Place, Position]:
        """Return what is to be read, and from where; ``reading`` is what is read now.

        Raises:
            ConfigurationError: the pipeline file does not declare the definition that answers.
        """
        places: dict[Place, Position] = {}
        for partition in held:
            if self.cutovers.held(partition):
                continue
            current = self.cutovers.current(partition, self.first)
            for version in (current, *self._unfinished(partition, current, committed, reading)):
                place = (self._source(version, partition).topic, partition)
                places[place] = reading.get(place) or self._start(version, place, committed)
        return places

    def wanted_in_shadow(
        self,
        held: Sequence[int],
        committed: Mapping[Place, Position],
        reading: Mapping[Place, Position],
        shadows: Mapping[int, Sequence[Positions]],
    ) -> dict[Place, Position]:
        """Return what is to be read in shadow: the definition ordered last, and each that has
        ``shadows``, definition → the first features offsets that its versions answer."""
        last = self.cutovers.definition or self.first
        places: dict[Place, Position] = {}
        for partition in held:
            for version in {last, *(shadows.keys() & self.sources.keys())}:
                place = (self._source(version, partition).topic, partition)
                since = [at.get(str(partition), 0) for at in shadows.get(version, ())]
                begun = Position(min(since)) if since and version != self.first else None
                at = reading.get(place) or committed.get(place) or begun
                places[place] = at or self._start(version, place, committed)
        return places

    def current(self, partition: int) -> Place:
        """Return the features partition that is answered now."""
        version = self.cutovers.current(partition, self.first)
        return self._source(version, partition).topic, partition

    def entry(
        self, version: int, partition: int, committed: Mapping[Place, Position], answered: int
    ) -> int:
        """Return about where a definition's features would be read from if it were ordered now,
        and never behind it; ``answered`` is the last source offset answered."""
        source = self.sources[version]
        place = (source.topic, partition)
        at = committed.get(place, Position(0))
        if source.rekeyed:
            return at.next_offset
        return self.find(place, answered + 1, at.next_offset)

    def answers(self, version: int, rows: FeatureRows) -> NDArray[np.bool_]:
        """Return which rows (n,) of a definition's features it has to answer."""
        if not self.cutovers.orders:
            return np.ones(len(rows), dtype=bool)
        partitions, offsets = origins(rows)
        answering = self.cutovers.definitions_at(partitions, offsets, self.first)
        mine: NDArray[np.bool_] = answering == version
        return mine

    def passed(self, version: int, rows: FeatureRows) -> int | None:
        """Take note of what was read; return the first row that must not be passed, if any."""
        source, place = self.sources[version], (self.sources[version].topic, rows.partition)
        if not self.cutovers.orders:
            return None
        if source.rekeyed:
            seen = self._seen.setdefault(place, {})
            partitions, offsets = origins(rows)
            for partition in np.unique(partitions).tolist():
                newest = int(offsets[partitions == partition].max())
                seen[partition] = max(newest, seen.get(partition, newest))
            return None
        end = self._end(version, rows.partition)
        if end is None:
            return None
        beyond = np.flatnonzero(rows.source_offsets >= end)
        if not len(beyond):
            return None
        self._over.add((place, end))
        return int(beyond[0])

    def _unfinished(
        self,
        partition: int,
        current: int,
        committed: Mapping[Place, Position],
        reading: Mapping[Place, Position],
    ) -> list[int]:
        """Return the definitions that ended and have not been read up to there."""
        versions = {order.before for order in self.cutovers.orders}
        versions |= {order.definition for order in self.cutovers.orders}
        left = []
        for version in sorted(versions - {current}):
            source = self.sources.get(version)
            if source is None:
                continue  # its topic may be gone
            place = (source.topic, partition)
            at = reading.get(place) or committed.get(place)
            is_over = self._is_spread_over if source.rekeyed else self._is_over
            if not is_over(version, place, at):
                left.append(version)
        return left

    def _is_over(self, version: int, place: Place, at: Position | None) -> bool:
        return self._has_read(place, self._end(version, place[1]) or 0, at or Position(0))

    def _is_spread_over(self, version: int, place: Place, _: Position | None) -> bool:
        """Whether events of each partition have been seen behind the definition's end there."""
        seen, partitions = self._seen.get(place, {}), range(self.cutovers.orders[-1].partitions)
        return all(seen.get(p, -1) >= (self._end(version, p) or 0) - 1 for p in partitions)

    def _end(self, version: int, partition: int) -> int | None:
        """Return the offset of an events partition behind which the definition answers no more."""
        if partition not in self._ends:
            self._ends[partition] = self.cutovers.ended(partition, self.first)
        return self._ends[partition].get(version)

    def _start(self, version: int, place: Place, committed: Mapping[Place, Position]) -> Position:
        at = committed.get(place, Position(0))
        if self.sources[version].rekeyed:
            return at  # its rows do not stand in the order of the events topic
        spans = [s for s in self.cutovers.spans(place[1], self.first) if s.definition == version]
        if not spans or spans[-1].first <= at.answered + 1:
            return at
        if len(spans) > 1 and not self._has_read(place, spans[-2].end or 0, at):
            return at
        first = spans[-1].first
        return Position(self.find(place, first, at.next_offset), first - 1)

    def _has_read(self, place: Place, end: int, at: Position) -> bool:
        return at.answered >= end - 1 or (place, end) in self._over

    def _source(self, version: int, partition: int) -> Source:
        source = self.sources.get(version)
        if source is None:
            declared = ", ".join(f"v{known}" for known in sorted(self.sources))
            raise ConfigurationError(
                f"partition {partition} is answered from the features of definition v{version}, as "
                f"the cut-overs in the control log say, and the pipeline file declares only "
                f"{declared}: declare v{version} too, as features=(...), and start the worker again"
            )
        return source


def sources_of(
    topics: Topics,
    definitions: Sequence[Definition],
    events: EventStream,
    labels: LabelStream | None,
) -> dict[int, Source]:
    """Return version → its features, for all definitions that the pipeline declares."""
    return {
        d.version: Source(
            d, replace(topics, definition=d.version).features, is_rekeyed(d, events, labels)
        )
        for d in definitions
    }


def is_rekeyed(definition: Definition, events: EventStream, labels: LabelStream | None) -> bool:
    """Return whether the events of a partition are spread over the definition's features topic."""
    return len(definition.keys(events, labels)) > 1


def origins(rows: FeatureRows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where in the events topic the rows' events stand: partitions (n,), offsets (n,)."""
    if rows.origin_partitions is None or rows.origin_offsets is None:
        return np.full(len(rows), rows.partition, dtype=np.int64), rows.source_offsets
    return rows.origin_partitions, rows.origin_offsets
