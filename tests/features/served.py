"""What a feature worker serves, made in the test's own process, so that it can be wrong."""

from collections.abc import Callable
from pathlib import Path

from confluent_kafka import TopicPartition

from features.definition import Definition
from features.engine.engine import Processed
from features.processing.output import StageOutput
from features.processing.stages import Stage, stages_of
from features.store.rows import entity_keys
from features.store.sqlite_store import FILE_NAME, SqliteStore
from features.store.views import stored_name, view_of
from streams.kafka_client import consumer, producer
from streams.replay import offset_bounds, read_ranges
from streams.topics import Topics
from tests.features.payments import DEFINITION, PARTITIONS, PAYMENTS

Tamper = Callable[[int, int, bytes], list[bytes]]
"""(partition, source offset, value) → the values that are served in its place."""


def stage_of(topics: Topics, definition: Definition = DEFINITION) -> Stage:
    (stage,) = stages_of(definition, PAYMENTS, None, topics)
    return stage


class Server:
    """Serves what a definition gives for the events, as far as they have come."""

    def __init__(self, bootstrap: str, stage: Stage, home: Path) -> None:
        self._bootstrap, self._stage = bootstrap, stage
        self._engines = {p: stage.engine() for p in range(PARTITIONS)}
        self._at = dict.fromkeys(self._engines, 0)
        self._output = StageOutput(stage)
        self._view = view_of(stage.definition, stage.events)
        self.store = SqliteStore(home / "feast" / FILE_NAME)
        self.view = stored_name(stage.topics.name, self._view.name)
        self.store.create(self.view)

    def serve(self, tamper: Tamper | None = None) -> None:
        """Emit, store and commit everything up to the events' ends."""
        client = producer(self._bootstrap)
        bounds = offset_bounds(self._bootstrap, self._stage.input, PARTITIONS)
        ends = {p: end for p, (_, end) in bounds.items()}
        for batch in read_ranges(
            self._bootstrap, self._stage.input, {p: (self._at[p], ends[p]) for p in ends}
        ):
            processed = self._engines[batch.partition].process(batch)
            values, _ = self._output.of(processed, batch)
            offsets = processed.rows.source_offsets.tolist()
            for offset, value in zip(offsets, values, strict=True):
                given = [value] if tamper is None else tamper(batch.partition, offset, value)
                for one in given:
                    client.produce(self._stage.output, one, b"k", batch.partition)
            self._keep(processed)
        assert client.flush(30) == 0
        self._at = ends
        committer = consumer(self._bootstrap, group_id=self._stage.group)
        try:
            places = [TopicPartition(self._stage.input, p, end) for p, end in ends.items()]
            committer.commit(offsets=places, asynchronous=False)
        finally:
            committer.close()

    def emit_again(self, partition: int, value: bytes) -> None:
        """Append one record to the output."""
        client = producer(self._bootstrap)
        client.produce(self._stage.output, value, b"k", partition)
        assert client.flush(30) == 0

    def _keep(self, processed: Processed) -> None:
        rows = processed.rows
        for i in range(len(rows)):  # one by one, so the store decides about order
            numeric, texts = rows.numeric[i : i + 1], [[column[i]] for column in rows.categories]
            names = self._stage.definition.names("numeric")
            assert list(self._view.layout.numbers) == names
            self.store.write(
                self.view,
                entity_keys("card", [rows.entities[i]]),
                rows.event_times_ms[i : i + 1],
                self._view.layout.encode(numeric, texts),
            )
