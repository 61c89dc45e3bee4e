"""What a stage writes: its bytes, where they go, and what they are of."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.engine.engine import Processed
from features.processing.rekeyed import RekeyedCodec
from features.processing.rekeying import rekeyed
from features.processing.stages import Stage
from features.records import FeatureCodec, FeatureRows
from streams.batch import LogBatch
from streams.errors import StateError
from streams.partitioning import partitions_of
from streams.wire import Source


class StageOutput:
    """The records of a stage's output; features, or events keyed anew."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        declared = stage.definition, stage.events, stage.labels
        self._features = FeatureCodec(*declared)
        self._rekeyed = None if stage.is_last else RekeyedCodec(*declared, stage.number + 1)
        self._source = msgspec.json.Decoder(_Sourced).decode
        self._origin = msgspec.json.Decoder(_Originating).decode

    def of(self, processed: Processed, batch: LogBatch) -> tuple[list[bytes], NDArray[np.int64]]:
        """Return (values, partitions of the output), (n,) each, of the rows of a batch."""
        if self._rekeyed is None:
            values = self._features.encode(processed.rows)
            return values, np.full(len(values), processed.rows.partition, dtype=np.int64)
        keys, column = rekeyed(self._stage, self._rekeyed, processed, batch)
        stretches = zip(column.starts.tolist(), column.lengths.tolist(), strict=True)
        values = [column.data[start : start + length] for start, length in stretches]
        return values, partitions_of(keys, self._stage.events.partitions)

    def identities(self, rows: FeatureRows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return what the rows' records call source or origin: (partitions, offsets), (n,) each."""
        if self._stage.is_last or rows.origin_partitions is None or rows.origin_offsets is None:
            return np.full(len(rows), rows.partition, dtype=np.int64), rows.source_offsets
        return rows.origin_partitions, rows.origin_offsets

    def places(self, batch: LogBatch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the same of the records of the output.

        Feature records stand in the partition of their source, whatever else they say.
        """
        try:
            if self._stage.is_last:
                found = [self._source(value).source for value in batch.values]  # type: ignore[arg-type]
            else:
                found = [self._origin(value).origin for value in batch.values]  # type: ignore[arg-type]
        except (msgspec.MsgspecError, TypeError) as error:
            raise StateError(
                f"{batch.topic} partition {batch.partition}, offsets {int(batch.offsets[0])} to "
                f"{int(batch.offsets[-1])}: a record there is no {self._what} ({error}); another "
                "program wrote to the topic"
            ) from error
        columns = np.array([(at.partition, at.offset) for at in found], np.int64).reshape(-1, 2)
        if self._stage.is_last:
            columns[:, 0] = batch.partition
        return columns[:, 0], columns[:, 1]

    @property
    def _what(self) -> str:
        return "feature record" if self._stage.is_last else "re-keyed event"


class _Sourced(msgspec.Struct):
    source: Source


class _Originating(msgspec.Struct):
    origin: Source
