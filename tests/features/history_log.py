"""A features topic with a known content: what an engine makes of payments, put there by itself."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from features.engine.engine import FeatureEngine
from features.records import FeatureCodec
from streams.batch import LogBatch
from streams.kafka_client import producer
from streams.topics import Topics
from tests.features.payments import DEFINITION, PARTITIONS, PAYMENTS, payments, read_all, send

Record = tuple[int, bytes]  # partition, value


@dataclass
class FeatureLog:
    """Makes feature records of payments, and appends them as a worker would.

    ``records`` are all that were made, in the order in which they were.
    """

    bootstrap: str
    topics: Topics
    records: list[Record] = field(default_factory=list)
    _engines: list[FeatureEngine] = field(
        default_factory=lambda: [FeatureEngine(DEFINITION, PAYMENTS) for _ in range(PARTITIONS)]
    )
    _seen: dict[int, int] = field(default_factory=dict)

    def grow(self, first: int, n: int) -> list[Record]:
        """Append ``n`` payments and their features; return the new records."""
        send(self.bootstrap, self.topics, payments(first, n, cards=8, bad=False))
        return self.follow()

    def follow(self) -> list[Record]:
        """Append the features of the events that came; return the new records."""
        codec = FeatureCodec(DEFINITION, PAYMENTS)
        made: list[Record] = []
        for batch in read_all(self.bootstrap, self.topics.events):
            rows = self._engines[batch.partition].process(self._unseen(batch)).rows
            made += [(batch.partition, value) for value in codec.encode(rows)]
            self._seen[batch.partition] = batch.next_offset
        self.records += made
        self.append(made)
        return made

    def append(self, records: list[Record]) -> None:
        """Append records to the features topic, once more if they stand there already."""
        client = producer(self.bootstrap, linger_ms=2)
        for partition, value in records:
            client.produce(self.topics.features, value, partition=partition)
        assert client.flush(30) == 0

    def by_place(self) -> dict[tuple[int, int], dict[str, Any]]:
        """Return (partition, source offset) → the record."""
        decoded = [msgspec.json.decode(value) for _, value in self.records]
        return {(r["source"]["partition"], r["source"]["offset"]): r for r in decoded}

    def _unseen(self, batch: LogBatch) -> LogBatch:
        n = int((batch.offsets < self._seen.get(batch.partition, 0)).sum())
        return LogBatch(
            batch.topic, batch.partition, batch.offsets[n:], batch.timestamps_ms[n:],
            batch.keys[n:], batch.values[n:], batch.next_offset,
        )  # fmt: skip
