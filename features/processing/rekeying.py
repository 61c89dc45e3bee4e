"""From the batches of an earlier stage to acknowledged records on the next stage's topic."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial

import numpy as np
from numpy.typing import NDArray

from features.engine.engine import Processed
from features.processing.emission import all_of, row_records, send_dead
from features.processing.rekeyed import RekeyedCodec, at_origin, raw_events
from features.processing.selection import chosen
from features.processing.stages import Stage
from streams.batch import LogBatch
from streams.batch_producer import BatchProducer
from streams.byte_columns import ByteColumn
from streams.dead_letters import DeadLetter
from streams.partitioning import partitions_of
from streams.record_batch import warm_up


class RekeyingEmitter:
    """Sends without waiting; each :meth:`emit` gives a future that the acknowledgement sets.

    An event goes to the partition of its next key, so those of one partition spread over all; from
    any one partition to any other they keep their order, whatever fails.
    """

    def __init__(self, bootstrap: str, stage: Stage) -> None:
        warm_up()
        self._stage = stage
        self._codec = RekeyedCodec(stage.definition, stage.events, stage.labels, stage.number + 1)
        self._loop = asyncio.get_running_loop()
        self._fixed = [
            ("ce_specversion", b"1.0"),
            ("ce_type", f"{stage.output}.rekeyed".encode()),
            ("ce_source", f"kappa/{stage.role}/{stage.definition.version}".encode()),
            ("content-type", b"application/json"),
        ]
        self._producer = BatchProducer(bootstrap)

    def emit(
        self, processed: Processed, traceparents: Mapping[int, bytes], batch: LogBatch
    ) -> asyncio.Future[None]:
        """Queue the rows' events and the dead letters; ``batch`` is what they were made of.

        ``traceparents``: source offset → header value, passed through. The future's exception is a
        BrokerError.
        """
        sent: list[Future[None]] = []
        for partition, (places, keys, values) in self._by_partition(processed, batch).items():
            rows = chosen(processed.rows, places)
            records = partial(row_records, rows, keys, values, traceparents, self._fixed)
            sent.append(self._producer.send(self._stage.output, partition, records))
        sent += send_dead(self._producer, self._dead(processed, batch))
        return all_of(sent, self._loop)

    def _dead(self, processed: Processed, batch: LogBatch) -> list[DeadLetter]:
        """Return the dead letters as such of the events topic."""
        if self._stage.number == 0:
            return processed.dead
        return at_origin(processed.dead, batch, self._stage.topics.events)

    def _by_partition(
        self, processed: Processed, batch: LogBatch
    ) -> dict[int, tuple[NDArray[np.int64], ByteColumn, ByteColumn]]:
        """Return partition → (places of its rows, keys, values), in log order."""
        keys, values = rekeyed(self._stage, self._codec, processed, batch)
        targets = partitions_of(keys, self._stage.events.partitions)
        found: dict[int, tuple[NDArray[np.int64], ByteColumn, ByteColumn]] = {}
        for partition in np.unique(targets).tolist():
            places = np.flatnonzero(targets == partition)
            found[partition] = places, keys.at(places), values.at(places)
        return found

    def close(self) -> None:
        """Stop; what is not acknowledged by now is given up."""
        self._producer.close()


def rekeyed(
    stage: Stage, codec: RekeyedCodec, processed: Processed, batch: LogBatch
) -> tuple[ByteColumn, ByteColumn]:
    """Return (keys, values) of the records that a stage makes of a batch's rows."""
    records = [batch.values[place] for place in processed.places.tolist()]
    values = codec.encode(processed.rows, raw_events(records, stage.number))
    return ByteColumn.of_texts(processed.next_entities), ByteColumn.of(values)
