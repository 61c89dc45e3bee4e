"""The monitor's inputs: features of one definition, predictions and labels, read into the state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from features.definition import Definition
from features.records import FeatureCodec, FeatureRows
from serving.monitoring.declared import Declared
from serving.monitoring.label_records import DUPLICATE_LABEL, LabelCodec, dead_letter
from serving.monitoring.log_reader import LogReader
from serving.monitoring.outbox import Outbox
from serving.monitoring.prediction_records import PredictionCodec
from serving.monitoring.state import MonitorState
from serving.monitoring.watermark import Watermark
from streams import hops
from streams.batch import LogBatch
from streams.replay import offsets_at, read_ranges
from streams.topics import Topics

IDLE_STEPS = 2


class MonitorInputs:
    """Reads all partitions, by ``assign``, from where :meth:`follow` says.

    ``topics`` are the pipeline's, with the definition whose features are followed;
    ``features_made`` is that one's hash and the id of its log; ``names`` are the topics read.
    ``readers``, by topic, and the codecs ``features``, ``predictions`` and ``labels`` are what
    reading is done with.

    Raises:
        BrokerError: the broker can't be reached, or refuses.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        declared: Declared,
        state: MonitorState,
        outbox: Outbox,
    ) -> None:
        self.topics = topics
        self._bootstrap, self._declared = bootstrap, declared
        self._partitions = declared.events.partitions
        self._state, self._outbox = state, outbox
        self.predictions = PredictionCodec(declared.task)
        self.labels = LabelCodec(declared.labels, declared.task)
        self.readers: dict[str, LogReader] = {}

    # What is followed

    def follow(
        self,
        definition: Definition,
        positions: Mapping[str, Mapping[int, int]],
        newest: Sequence[Sequence[str | int]],
    ) -> None:
        """Read the features of a definition beside predictions and labels, from ``positions``.

        Inputs that are read already go on from where they stand. ``newest`` is the watermark's.
        """
        declared = self._declared
        self.topics = topics = replace(self.topics, definition=definition.version)
        self.features = FeatureCodec(definition, declared.events, declared.labels)
        self.features_made = declared.features_made(definition, self._bootstrap, topics)
        self.names = (topics.features, topics.predictions, topics.labels)
        self._watermark = Watermark(
            self.names,
            self._partitions,
            declared.events.lateness_ms,
            IDLE_STEPS * declared.step_ms,
        )
        self._watermark.load([at for at in newest if at[0] in self.names])
        before, group = self.readers, topics.group("monitor")
        self.readers = {
            topic: before[topic]
            if topic in before
            else LogReader(
                self._bootstrap, topic, group, self._partitions, positions.get(topic, {})
            )
            for topic in self.names
        }
        for topic in before.keys() - self.readers.keys():
            before[topic].close()
        self._take = {
            topics.features: self._take_features,
            topics.predictions: self._take_predictions,
            topics.labels: self._take_labels,
        }

    def change_features(self, definition: Definition, from_ms: int) -> None:
        """Go over to the features of another definition, from an event time on."""
        topic = replace(self.topics, definition=definition.version).features
        # The first record of that time or later: all before it are older.
        start = offsets_at(self._bootstrap, topic, self._partitions, from_ms)
        self.follow(definition, {topic: start}, self.newest())

    def features_again(self, first: Mapping[int, int]) -> Iterator[FeatureRows]:
        """Yield the features from ``first``, partition → offset, to where reading stands."""
        topic = self.topics.features
        positions = self.readers[topic].positions
        ranges = {p: (offset, positions[p]) for p, offset in first.items()}
        return map(self.features.decode, read_ranges(self._bootstrap, topic, ranges))

    # Reading

    def read(self) -> bool:
        """Take what has come into the state; return whether there was anything."""
        any_came = False
        for topic, reader in self.readers.items():
            for batch in reader.poll():
                self._take[topic](batch)
                hops.count(topic, len(batch))
                any_came = True
        return any_came

    def watermark_ms(self) -> int | None:
        """Return the event time up to which all has come; None while nothing is known."""
        return self._watermark.value_ms({t: r.ended for t, r in self.readers.items()})

    def _take_features(self, batch: LogBatch) -> None:
        rows = self.features.decode(batch)
        self._state.add_features(rows, batch.offsets)
        self._watermark.note(batch.topic, batch.partition, rows.event_times_ms)

    def _take_predictions(self, batch: LogBatch) -> None:
        rows = self.predictions.decode(batch)
        self._state.add_predictions(rows.event_ids, rows.scores, rows.versions, rows.times_ms)
        self._watermark.note(batch.topic, batch.partition, rows.times_ms)

    def _take_labels(self, batch: LogBatch) -> None:
        rows, dead = self.labels.decode(batch)
        duplicates = self._state.add_labels(rows, batch.partition)
        for i in np.flatnonzero(duplicates).tolist():
            reason = f"event {rows.event_ids[i]!r} has a label already; the first one counts"
            dead.append(dead_letter(batch, int(rows.rows[i]), DUPLICATE_LABEL, reason))
        for letter in dead:
            self._outbox.dead_label(letter)
        self._watermark.note(batch.topic, batch.partition, rows.times_ms)

    # Where reading stands

    def positions(self) -> dict[str, dict[int, int]]:
        """Return input topic → partition → next offset."""
        return {topic: dict(reader.positions) for topic, reader in self.readers.items()}

    def positions_at(self, end_ms: int) -> dict[str, dict[int, int]]:
        """Return input topic → partition → next offset of what comes before ``end_ms``, however
        much more was read. Predictions are not among them: their offsets count the markers of
        transactions, which differ between equal runs."""
        state, topics = self._state, self.topics
        inputs = {topics.features: state.first_features, topics.labels: state.first_labels}
        return {
            topic: first.before(end_ms, self.readers[topic].positions)
            for topic, first in inputs.items()
        }

    def newest(self) -> list[list[str | int]]:
        """Return what :meth:`follow` takes as ``newest``."""
        return self._watermark.to_json()

    def has_read(self, targets: Mapping[str, Mapping[int, int]]) -> bool:
        """Return whether reading has got to ``targets``, topic → partition → next offset."""
        return all(
            self.readers[topic].positions[partition] >= end
            for topic in self.names
            for partition, end in targets[topic].items()
        )

    def at_end(self) -> bool:
        """Return whether everything that stands in the inputs was read."""
        return all(len(r.ended) == self._partitions for r in self.readers.values())

    def commit(self, others: Mapping[str, int]) -> None:
        """Commit the positions, and that in partition 0 of ``others``, topic → next offset."""
        first, *rest = self.readers.values()
        first.commit(others)
        for reader in rest:
            reader.commit({})

    def close(self) -> None:
        """Close the connections."""
        for reader in self.readers.values():
            reader.close()
