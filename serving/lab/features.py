"""A pipeline's feature rows for the lab: from its log, or computed in this process from files.

Both give the same rows; the in-process way runs the same engine, stage by stage, over the records
in the order of their times, as workers that are never behind would see them.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from features.definition import Definition
from features.engine.engine import FeatureEngine, Processed
from features.processing.interleaving import seen_by_time
from features.processing.rekeyed import RekeyedCodec, raw_events
from features.processing.stages import Stage, stages_of
from features.records import FeatureCodec, FeatureRows
from serving.pipeline import Pipeline
from streams.batch import LogBatch
from streams.byte_columns import ByteColumn
from streams.dead_letters import DeadLetter
from streams.merging import concatenate, in_order, rows_where
from streams.partitioning import partitions_of
from streams.recording import Recording
from streams.replay import offset_bounds, read_ranges

Rows = Callable[[], Iterable[FeatureRows]]
"""Gives all feature rows, from the beginning, each time it is called."""


def rows_of_log(bootstrap: str, pipeline: Pipeline, definition: Definition) -> Rows:
    """Return the rows that stand in the features topic by now, partition after partition.

    Reading them raises BrokerError where the log can't be read, StateError where it is damaged.
    """
    topic = pipeline.topics_of(definition).features
    bounds = offset_bounds(bootstrap, topic, pipeline.events.partitions)
    codec = FeatureCodec(definition, pipeline.events, pipeline.labels)

    def rows() -> Iterator[FeatureRows]:
        for batch in read_ranges(bootstrap, topic, bounds):
            yield codec.decode(batch)

    return rows


def rows_of_recordings(
    recordings: Callable[[], Iterable[Recording]], pipeline: Pipeline, definition: Definition
) -> Rows:
    """Return the rows of what files or a generator give; ``recordings`` begins anew each time.

    Reading them raises SourceError where a file can't be read.
    """

    def rows() -> Iterator[FeatureRows]:
        chain = Chain(pipeline, definition)
        for recording in recordings():
            yield from chain.take(recording)

    return rows


class Chain:
    """All stages and partitions of a definition, in memory from one to the next.

    ``refused`` is called with each event that is none of the pipeline's.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        definition: Definition,
        refused: Callable[[DeadLetter], None] = lambda _: None,
    ) -> None:
        self._refused = refused
        topics = pipeline.topics_of(definition)
        self._stages = [
            _Stage(stage)
            for stage in stages_of(definition, pipeline.events, pipeline.labels, topics)
        ]

    def take(self, recording: Recording) -> Iterator[FeatureRows]:
        """Yield the rows of a recording's events."""
        labels = rows_where(recording, recording.is_label)
        events = rows_where(recording, ~recording.is_label)
        for stage in self._stages:
            made = list(stage.take(events, labels))
            for processed, _ in made:
                for dead in processed.dead:
                    self._refused(dead)
            if stage.stage.is_last:
                yield from (processed.rows for processed, _ in made)
                return
            events = in_order(concatenate([stage.rekeyed(*each) for each in made]))


class _Stage:
    """One stage with the engines of its partitions."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        partitions = stage.events.partitions
        self._engines: list[FeatureEngine] = [stage.engine() for _ in range(partitions)]
        self._ends = [0] * partitions
        self._labels = [_empty(stage.topics.labels, p) for p in range(partitions)]
        if not stage.is_last:
            self._codec = RekeyedCodec(
                stage.definition, stage.events, stage.labels, stage.number + 1
            )

    def take(self, events: Recording, labels: Recording) -> Iterator[tuple[Processed, LogBatch]]:
        """Yield what the partitions make of the next events, with the batches it is made of."""
        if self.stage.reads_labels:
            for partition, found in self._by_partition(labels).items():
                self._labels[partition] = _appended(self._labels[partition], found)
        for partition, found in self._by_partition(events).items():
            first = self._ends[partition]
            batch = _batch(self.stage.input, partition, first, found)
            self._ends[partition] = batch.next_offset
            if self.stage.reads_labels:
                yield self._with_labels(batch), batch
            else:
                yield self._engines[partition].process(batch), batch

    def rekeyed(self, processed: Processed, batch: LogBatch) -> Recording:
        """Return the next stage's records of a batch."""
        places = processed.places
        records = [batch.values[place] for place in places.tolist()]
        values = self._codec.encode(processed.rows, raw_events(records, self.stage.number))
        keys: list[bytes | None] = [entity.encode() for entity in processed.next_entities]
        return Recording(batch.timestamps_ms[places], np.zeros(len(places), np.bool_), keys, values)

    def _with_labels(self, batch: LogBatch) -> Processed:
        waiting, engine = self._labels[batch.partition], self._engines[batch.partition]
        seen = seen_by_time(
            batch.timestamps_ms, waiting.timestamps_ms, waiting.offsets, engine.label_offset
        )
        due = int(np.searchsorted(waiting.offsets, seen[-1]))
        self._labels[batch.partition] = _cut(waiting, due, len(waiting))
        return engine.process(batch, _cut(waiting, 0, due), seen)

    def _by_partition(self, records: Recording) -> dict[int, Recording]:
        targets = partitions_of(ByteColumn.of(records.keys), self.stage.events.partitions)
        return {p: rows_where(records, targets == p) for p in np.unique(targets).tolist()}


def _empty(topic: str, partition: int) -> LogBatch:
    none: NDArray[np.int64] = np.empty(0, np.int64)
    return LogBatch(topic, partition, none, none, [], [], 0)


def _batch(topic: str, partition: int, first: int, records: Recording) -> LogBatch:
    end = first + len(records)
    offsets = np.arange(first, end, dtype=np.int64)
    values: list[bytes | None] = list(records.values)
    return LogBatch(topic, partition, offsets, records.timestamps_ms, records.keys, values, end)


def _appended(batch: LogBatch, records: Recording) -> LogBatch:
    more = _batch(batch.topic, batch.partition, batch.next_offset, records)
    return LogBatch(
        batch.topic,
        batch.partition,
        np.append(batch.offsets, more.offsets),
        np.append(batch.timestamps_ms, more.timestamps_ms),
        batch.keys + more.keys,
        batch.values + more.values,
        more.next_offset,
    )


def _cut(batch: LogBatch, start: int, stop: int) -> LogBatch:
    end = batch.next_offset if stop == len(batch) else int(batch.offsets[stop])
    return LogBatch(
        batch.topic,
        batch.partition,
        batch.offsets[start:stop],
        batch.timestamps_ms[start:stop],
        batch.keys[start:stop],
        batch.values[start:stop],
        end,
    )
