"""What the outcomes worker knows: a fold over predictions, requests, labels and features. Pure."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.feedback.account import Account
from serving.feedback.columns import Matched
from serving.feedback.joining import Joining
from serving.feedback.records import AnswerReader, GroupReader, extra_numbers
from serving.inference.stretches import Place
from serving.monitoring.label_records import LabelCodec
from serving.monitoring.watermark import Watermark
from serving.pipeline import Pipeline
from streams.batch import LogBatch
from streams.durations import seconds
from streams.errors import StateError


class OutcomeState:
    """The fold. ``topics`` are those that it is made of, ``fields`` the group fields of all
    definitions, ``texts`` those of the groups' numbers."""

    def __init__(self, pipeline: Pipeline) -> None:
        topics, task = pipeline.topics, pipeline.model.task
        self.within_ms = seconds(pipeline.labels_within) * 1000
        self.fields = tuple(dict.fromkeys(g for d in pipeline.definitions for g in d.groups))
        answers = AnswerReader(pipeline.name, task)
        self._answers = {
            topics.predictions: answers.predictions,
            topics.shadow: answers.predictions,
            topics.requests: answers.requests,
        }
        self._labels = LabelCodec(pipeline.labels, task)
        self._groups = {
            pipeline.topics_of(d).features: (GroupReader(d.groups), self._numbers(d.groups))
            for d in pipeline.definitions
            if d.groups
        }
        self._paced = (topics.predictions, topics.labels)
        self.topics = (*self._answers, topics.labels, *self._groups)
        needs = {d.version: self._numbers(d.groups) for d in pipeline.definitions}
        self.joining = Joining(self.within_ms, len(self.fields), needs, extra_numbers(task))
        self._codes: dict[str, int] = {}
        self._watermark = Watermark(self._paced, pipeline.events.partitions, 0, self.within_ms)
        self.clock_ms: int | None = None

    @property
    def texts(self) -> list[str]:
        """The texts of the groups' numbers."""
        return list(self._codes)

    def take(self, batch: LogBatch) -> Matched:
        """Take a stretch of one of the topics; return what is complete by it.

        Raises:
            StateError: a record is none that this pipeline's workers write.
        """
        try:
            self._add(batch)
        except msgspec.MsgspecError as error:
            raise StateError(
                f"{batch.topic} partition {batch.partition}, offsets {int(batch.offsets[0])} to "
                f"{int(batch.offsets[-1])}: a record is none of this pipeline ({error}); another "
                "program writes to the topic"
            ) from error
        return self.joining.take()

    def _add(self, batch: LogBatch) -> None:
        if batch.topic in self._answers:
            answered = self._answers[batch.topic](batch)
            self.joining.add_answers(answered)
            self._note(batch, answered.rows["event_time_ms"])
        elif batch.topic in self._groups:
            reader, fields = self._groups[batch.topic]
            event_ids, times_ms, columns = reader.decode(batch)
            self.joining.add_groups(event_ids, times_ms, fields, self._coded(columns))
        else:
            rows, dead = self._labels.decode(batch)
            self.joining.counts.unusable += len(dead)
            self.joining.add_labels(
                rows.event_ids, rows.labels, rows.times_ms, batch.partition, rows.offsets
            )
            self._note(batch, rows.times_ms)

    def expire(self, ended: Set[Place]) -> None:
        """Let go of what nothing can match any more; ``ended`` are the places at their end."""
        by_topic: dict[str, set[int]] = {topic: set() for topic in self._paced}
        for topic, partition in ended:
            by_topic.setdefault(topic, set()).add(partition)
        clock_ms = self._watermark.value_ms(by_topic)
        if clock_ms is not None and (self.clock_ms is None or clock_ms > self.clock_ms):
            self.clock_ms = clock_ms
            self.joining.expire(clock_ms)

    def account(self) -> Account:
        """Return what it has come to."""
        joining = self.joining
        return Account(joining.counts, len(joining), joining.events, joining.nbytes, self.clock_ms)

    # Snapshot

    def newest(self) -> list[list[str | int]]:
        """Return the newest times, see :class:`serving.monitoring.watermark.Watermark`."""
        return self._watermark.to_json()

    def restore(
        self, arrays: dict[str, NDArray[Any]], texts: Sequence[str], newest: list[list[str | int]]
    ) -> None:
        """Take over a saved state; raises ValueError or KeyError where it does not fit."""
        self.joining.restore(arrays)
        self._codes = {text: code for code, text in enumerate(texts)}
        self._watermark.load(newest)

    def _note(self, batch: LogBatch, times_ms: NDArray[np.int64]) -> None:
        if batch.topic in self._paced:
            self._watermark.note(batch.topic, batch.partition, times_ms)

    def _numbers(self, fields: Sequence[str]) -> list[int]:
        return [self.fields.index(field) for field in fields]

    def _coded(self, columns: list[list[str]]) -> NDArray[np.int64]:
        """Return the codes (n, fields) of texts."""
        known = self._codes
        for texts in columns:
            for text in dict.fromkeys(texts):
                known.setdefault(text, len(known))
        codes = [list(map(known.__getitem__, texts)) for texts in columns]
        return np.array(codes, np.int64).reshape(len(columns), -1).T
