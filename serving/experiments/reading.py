"""Reads the outcomes of an experiment into sums per entity; writes nothing, joins no group.

Who answered an entity is computed from the routing in the log, not read from the record; where a
record says something else, that is counted. Answers in shadow changed nothing for anybody and are
left out, and so are those over HTTP, which have no place in the features topic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.experiments.metrics import Metric, fields_of, values_of
from serving.experiments.spans import OPEN_END, Spans
from serving.experiments.sums import Course, Entities, Sums
from serving.monitoring.told import Told
from serving.pipeline import Pipeline
from streams.assignment import arms_of
from streams.batch import LogBatch
from streams.replay import offset_bounds, read_ranges
from streams.wire import Routing, Source

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NOWHERE = -1


class _Row(Told, kw_only=True, gc=False):
    """What is needed of a :class:`streams.wire.Outcome`."""

    entity: str
    label: float
    stage: str
    definition: int
    label_source: Source
    features_partition: int | None = None
    features_offset: int | None = None


@dataclass
class Readings:
    """What the outcomes say; arrays are by the entities' numbers.

    ``arms`` (entities,) are the numbers of the arms that answer them, −1: the control. ``during``
    and ``before`` hold each metric's sums, ``seen`` the outcomes during the experiment, ``course``
    the first metric's by event time. ``mismatches`` are outcomes of another version than the
    entity's, ``over_http`` those left out, ``unread`` label records that can't be read.
    """

    routing: Routing
    entities: Entities = field(default_factory=Entities)
    arms: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    during: list[Sums] = field(default_factory=list)
    before: list[Sums] = field(default_factory=list)
    seen: Sums = field(default_factory=Sums)
    course: Course = field(default_factory=Course)
    outcomes: int = 0
    mismatches: int = 0
    over_http: int = 0
    unread: int = 0
    first_ms: int = 0
    last_ms: int = 0

    @property
    def days(self) -> float:
        """How much event time the outcomes span."""
        return (self.last_ms - self.first_ms) / 86_400_000


def everything(partitions: int) -> Spans:
    """Return the spans that leave nothing out."""
    return Spans({partition: [(0, OPEN_END)] for partition in range(partitions)})


def read(
    bootstrap: str,
    pipeline: Pipeline,
    metrics: list[Metric],
    definition: int,
    routing: Routing,
    spans: Spans,
) -> Readings:
    """Return the sums of all outcomes that are in the log now.

    Args:
        bootstrap: the broker's address.
        pipeline: the pipeline.
        metrics: what is measured, the first one by time too.
        definition: the features that the experiment is on; other outcomes are left out.
        routing: who answers whom.
        spans: what the experiment answered.

    Raises:
        BrokerError: the log can't be read.
    """
    reader = _Reader(bootstrap, pipeline, metrics, spans, definition, routing)
    topic = pipeline.topics.outcomes
    bounds = offset_bounds(bootstrap, topic, pipeline.events.partitions)
    for partition, bound in bounds.items():
        for batch in read_ranges(bootstrap, topic, {partition: bound}):
            reader.take(batch)
        reader.read_labels()
    return reader.found


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Outcomes whose label record is still to be read: all (n,)."""

    partitions: Ints
    offsets: Ints
    numbers: Ints
    times_ms: Ints
    within: NDArray[np.bool_]


class _Reader:
    def __init__(
        self,
        bootstrap: str,
        pipeline: Pipeline,
        metrics: list[Metric],
        spans: Spans,
        definition: int,
        routing: Routing,
    ) -> None:
        self.found = Readings(routing)
        self.found.during = [Sums() for _ in metrics]
        self.found.before = [Sums() for _ in metrics]
        self._bootstrap, self._pipeline, self._metrics = bootstrap, pipeline, metrics
        self._spans, self._definition = spans, definition
        self._waiting: list[_Waiting] = []
        self._decode = msgspec.json.Decoder(_Row).decode
        versions = [*(arm.version for arm in routing.arms), routing.live]
        self._versions = np.array(versions, np.int64)

    def take(self, batch: LogBatch) -> None:
        """Add the outcomes of a stretch."""
        rows = [self._decode(value) for value in batch.values if value is not None]
        rows = [r for r in rows if r.definition == self._definition and r.stage != "shadow"]
        placed = [r for r in rows if r.features_offset is not None]
        self.found.over_http += len(rows) - len(placed)
        if placed:
            self._add(placed)

    def _add(self, rows: list[_Row]) -> None:
        found, n = self.found, len(rows)
        partitions = _column([r.features_partition for r in rows])
        offsets = _column([r.features_offset for r in rows])
        within = self._spans.within(partitions, offsets)
        before = self._spans.before(partitions, offsets)
        kept = within | before
        if not kept.any():
            return
        if not kept.all():
            rows = [row for row, keep in zip(rows, kept.tolist(), strict=True) if keep]
            within, n = within[kept], len(rows)
        numbers = found.entities.numbers_of([r.entity for r in rows])
        times = np.fromiter((r.event_time_ms for r in rows), np.int64, n)
        labels = np.fromiter((r.label for r in rows), np.float64, n)
        self._assign()
        found.entities.see(numbers[within], times[within])
        self._count(rows, numbers, times, within)
        for place, metric in enumerate(self._metrics):
            if metric.field is None:
                values = values_of(metric, self._pipeline.model.task, rows, labels)
                self._sum(place, numbers, values, times, within)
        if any(metric.field is not None for metric in self._metrics):
            self._waiting.append(
                _Waiting(
                    _column([r.label_source.partition for r in rows]),
                    _column([r.label_source.offset for r in rows]),
                    numbers, times, within,
                )
            )  # fmt: skip

    def _assign(self) -> None:
        """Compute the arms of the entities that came."""
        found = self.found
        new = found.entities.names[len(found.arms) :]
        if new:
            found.arms = np.concatenate([found.arms, arms_of(found.routing, new)])

    def _count(
        self, rows: list[_Row], numbers: Ints, times: Ints, within: NDArray[np.bool_]
    ) -> None:
        found = self.found
        if not within.any():
            return
        first, last = int(times[within].min()), int(times[within].max())
        found.first_ms = min(found.first_ms or first, first)
        found.last_ms = max(found.last_ms, last)
        found.outcomes += int(within.sum())
        found.seen.add(numbers[within], np.ones(int(within.sum())))
        if found.routing.arms:
            told = np.fromiter((r.model_version for r in rows), np.int64, len(rows))
            due = self._versions[found.arms[numbers]]  # −1 is the last: the live one
            found.mismatches += int(np.sum((told != due) & within))

    def _sum(
        self, place: int, numbers: Ints, values: Floats, times: Ints, within: NDArray[np.bool_]
    ) -> None:
        self.found.during[place].add(numbers[within], values[within])
        self.found.before[place].add(numbers[~within], values[~within])
        if place == 0:
            finite = within & np.isfinite(values)
            self.found.course.add(numbers[finite], values[finite], times[finite])

    def read_labels(self) -> None:
        """Read the label records that the outcomes taken so far were joined with."""
        if not self._waiting:
            return
        waiting = _Waiting(
            *(
                np.concatenate([getattr(each, name) for each in self._waiting])
                for name in _Waiting.__slots__
            )
        )
        self._waiting = []
        for partition in np.unique(waiting.partitions).tolist():
            own = np.flatnonzero(waiting.partitions == partition)
            own = own[np.argsort(waiting.offsets[own], kind="stable")]
            offsets = waiting.offsets[own]
            ranges = {partition: (int(offsets[0]), int(offsets[-1]) + 1)}
            topic = self._pipeline.topics.labels
            for batch in read_ranges(self._bootstrap, topic, ranges):
                first, last = np.searchsorted(offsets, [batch.offsets[0], batch.offsets[-1] + 1])
                if first < last:
                    self._join(batch, waiting, own[first:last])

    def _join(self, batch: LogBatch, waiting: _Waiting, rows: Ints) -> None:
        """Add the label records' fields of the outcomes ``rows``, which the batch covers."""
        records, places = self._records(batch)
        at = np.searchsorted(batch.offsets, waiting.offsets[rows])
        at = np.minimum(at, len(batch) - 1)
        there = (batch.offsets[at] == waiting.offsets[rows]) & (places[at] != _NOWHERE)
        rows, at = rows[there], at[there]
        for place, metric in enumerate(self._metrics):
            if metric.field is not None:
                values = fields_of(metric, records)[places[at]]
                numbers, times = waiting.numbers[rows], waiting.times_ms[rows]
                self._sum(place, numbers, values, times, waiting.within[rows])

    def _records(self, batch: LogBatch) -> tuple[list[Any], Ints]:
        """Return the label records that can be read, and each offset's place among them."""
        decode = msgspec.json.Decoder(self._pipeline.labels.type).decode
        records: list[Any] = []
        places = np.full(len(batch), _NOWHERE, np.int64)
        for row, value in _present(batch):
            try:
                records.append(decode(value))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self.found.unread += 1
            else:
                places[row] = len(records) - 1
        return records, places


def _present(batch: LogBatch) -> Iterator[tuple[int, bytes]]:
    return ((row, value) for row, value in enumerate(batch.values) if value is not None)


def _column(values: list[int | None] | list[int]) -> Ints:
    """Return the values, (n,); −1 where there is none."""
    return np.array([_NOWHERE if value is None else value for value in values], np.int64)
