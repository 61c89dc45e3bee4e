"""From processed batches to acknowledged records on the features and dead-letter topics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from threading import Lock

import numpy as np

from features.engine.engine import Processed
from features.records import FeatureCodec, FeatureRows
from streams import hops
from streams.batch import LogBatch
from streams.batch_producer import BatchProducer
from streams.byte_columns import ByteColumn
from streams.clock import Clock
from streams.dead_letters import DeadLetter
from streams.record_batch import RecordBatch, encode_batches, warm_up
from streams.topics import Topics, dead_letter_topic

FEATURISED_AT = "kappa-featurised-at-ms"
"""Header: wall-clock time at which the features were made, decimal milliseconds since the epoch."""

COMPRESSION = "lz4"
_EARLIEST_MS = 1  # 0 and below mean "no time" to some clients


class FeatureEmitter:
    """Sends without waiting; each :meth:`emit` gives a future that the acknowledgement sets.

    The producer stops at the first failure, so per partition the records stand in the topic in
    source order: whoever sees one knows that all before it are there.
    """

    def __init__(self, bootstrap: str, topics: Topics, codec: FeatureCodec, clock: Clock) -> None:
        warm_up()
        self._topics = topics
        self._codec = codec
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._fixed = [
            ("ce_specversion", b"1.0"),
            ("ce_type", f"{topics.name}.features".encode()),
            ("ce_source", f"kappa/features/{topics.definition}".encode()),
            ("content-type", b"application/json"),
        ]
        self._producer = BatchProducer(bootstrap)

    def emit(
        self,
        processed: Processed,
        traceparents: Mapping[int, bytes],
        batch: LogBatch | None = None,  # noqa: ARG002 - the rows say all that is needed of it
    ) -> asyncio.Future[None]:
        """Queue the rows under their events' partition, key and time, and the dead letters.

        ``traceparents``: source offset → header value, passed through. The future's exception is a
        BrokerError.
        """
        rows, keys = processed.rows, processed.keys
        sent: list[Future[None]] = []
        if len(rows):
            values = self._codec.encode(rows)
            now_ms = self._clock.now_ms()
            hops.note("event_to_features", hops.live(rows.event_times_ms, now_ms))
            fixed = [*self._fixed, (FEATURISED_AT, str(now_ms).encode())]
            records = partial(
                row_records, rows, ByteColumn.of(keys), ByteColumn.of(values), traceparents, fixed
            )
            sent.append(self._producer.send(self._topics.features, rows.partition, records))
        sent += send_dead(self._producer, processed.dead)
        return all_of(sent, self._loop)

    def close(self) -> None:
        """Stop; what is not acknowledged by now is given up."""
        self._producer.close()


def row_records(
    rows: FeatureRows,
    keys: ByteColumn,
    values: ByteColumn,
    traceparents: Mapping[int, bytes],
    fixed: Sequence[tuple[str, bytes]],
) -> list[RecordBatch]:
    """Return the records of n rows under the events' times, with ``fixed`` and their own headers.

    ``keys`` and ``values`` have the length n.
    """
    headers = [("ce_id", ByteColumn.of_texts(rows.event_ids))]
    if traceparents:
        traces = list(map(traceparents.get, rows.source_offsets.tolist()))
        headers.append(("traceparent", ByteColumn.of(traces)))
    return encode_batches(
        keys,
        values,
        rows.event_times_ms.clip(_EARLIEST_MS),
        fixed,
        headers,
        COMPRESSION,
    )


def send_dead(producer: BatchProducer, letters: Sequence[DeadLetter]) -> list[Future[None]]:
    """Send dead letters to the topics of theirs."""
    return [
        producer.send(topic, 0, partial(_dead_records, of_topic))
        for topic, of_topic in _by_topic(letters).items()
    ]


def _dead_records(letters: Sequence[DeadLetter]) -> list[RecordBatch]:
    values, keys, heads = zip(*(letter.to_record() for letter in letters), strict=True)
    times_ms = np.array([letter.timestamp_ms for letter in letters], dtype=np.int64)
    names = [name for name, _ in heads[0]]
    columns = [ByteColumn.of([value for _, value in head]) for head in zip(*heads, strict=True)]
    return encode_batches(
        ByteColumn.of(keys),
        ByteColumn.of(values),
        times_ms.clip(_EARLIEST_MS),
        headers=list(zip(names, columns, strict=True)),
        compression=COMPRESSION,
    )


def _by_topic(letters: Sequence[DeadLetter]) -> dict[str, list[DeadLetter]]:
    found: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        found.setdefault(dead_letter_topic(letter.topic), []).append(letter)
    return found


def all_of(sent: Sequence[Future[None]], loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    """Return a future of ``loop`` that is set when all are, in whatever thread that happens."""
    receipt = _Receipt(loop, len(sent))
    for future in sent:
        future.add_done_callback(receipt.take)
    return receipt.future


class _Receipt:
    """Counts what is acknowledged, in whatever thread that is said."""

    def __init__(self, loop: asyncio.AbstractEventLoop, expected: int) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._missing = expected
        self._lock = Lock()
        if expected == 0:
            self.future.set_result(None)

    def take(self, sent: Future[None]) -> None:
        with self._lock:
            self._missing -= 1
            is_last = self._missing == 0
        error = sent.exception()
        if error is not None or is_last:
            self._loop.call_soon_threadsafe(self._settle, error)

    def _settle(self, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(None)
