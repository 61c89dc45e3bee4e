"""A version answers a stretch of the past, beside what answered then and what turned out.

The features of the version's definition are read by ``assign``, with them the predictions of that
time and the labels, in step by their times; nobody is disturbed and nothing is written. A model
that sees an entity's last events gets the histories that it would have had.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.records import FeatureCodec, FeatureRows
from serving.feedback.reading import TopicsReader
from serving.feedback.records import AnswerReader
from serving.finished_run import read_rollout
from serving.inference.answers import Asked, Predict, checked_answers, last_of, not_answered
from serving.inference.entity_events import EntityEvents
from serving.inference.histories import history_keeper
from serving.inference.loading import Loader
from serving.inference.stretches import Place
from serving.monitoring.label_records import LabelCodec
from serving.monitoring.told import width
from serving.pipeline import Pipeline
from serving.shadowing.figures import Figures
from serving.shadowing.pairs import Pairing, Pairs
from streams.batch import LogBatch
from streams.durations import seconds
from streams.errors import ConfigurationError
from streams.replay import offset_bounds, offsets_at, read_ranges
from streams.wire import Registered
from training.answers import Answers
from training.networks.tasks import Binary, MultiClass, Task

LEAD_MS = 3_600_000
"""How far one input may be read ahead of another, in event time."""
EXPIRE_ROWS = 50_000
POLL_S = 0.1

Ranges = dict[int, tuple[int, int]]
Take = Callable[[Pairs], None]


@dataclass(frozen=True)
class Progress:
    """How far it has come: feature records read, of how many; ``rows_per_s`` since the start."""

    done: int
    total: int
    rows_per_s: float

    @property
    def left_s(self) -> float:
        """How long the rest takes at that rate; infinite before anything came."""
        return (self.total - self.done) / self.rows_per_s if self.rows_per_s else float("inf")


@dataclass(frozen=True)
class Outcome:
    """What it came to. ``without_live``: events that nothing had answered on the live path."""

    figures: Figures
    features: int
    without_live: int
    seconds: float


def registered_version(bootstrap: str, pipeline: Pipeline, version: int) -> Registered:
    """Return what the control log says of a version.

    Raises:
        ConfigurationError: there is no such version.
        DefinitionError: the pipeline file does not declare the definition that it answers.
    """
    found = read_rollout(bootstrap, pipeline.topics).versions.get(version)
    if found is None:
        raise ConfigurationError(f"there is no model {version}: see `kappa models list`")
    pipeline.definition(found.definition)
    return found


class PastShadow:
    """Version ``registered`` over the features in ``ranges``, partition → [first, end).

    Raises:
        ConfigurationError: there is nothing in the ranges.
        ModelError: the package is missing, damaged, or of another task.
    """

    def __init__(
        self,
        bootstrap: str,
        pipeline: Pipeline,
        home: Path,
        registered: Registered,
        load: Loader,
        ranges: Ranges,
    ) -> None:
        self._bootstrap, self._pipeline = bootstrap, pipeline
        self._topics = replace(pipeline.topics, definition=registered.definition)
        definition = pipeline.definition(registered.definition)
        self._ranges = ranges
        self._total = sum(end - first for first, end in ranges.values())
        if not self._total:
            raise ConfigurationError(
                f"{self._topics.features} holds nothing in that range: the version answers "
                f"definition v{registered.definition}; ask for another range, or build its "
                f"features with `kappa replay --definition v{registered.definition}`"
            )
        self._task = pipeline.model.task
        self._predict: Predict = load(registered)
        self._last = last_of(self._predict)
        self._codec = FeatureCodec(definition, pipeline.events, pipeline.labels)
        self._live = AnswerReader(pipeline.name, self._task)
        self._labels = LabelCodec(pipeline.labels, self._task)
        self._within_ms = seconds(pipeline.labels_within) * 1000
        self.pairing = Pairing(width(self._task), self._within_ms)
        self._newest: dict[int, int] = {}
        self._histories = self._begin_histories(home) if self._last else {}
        self._latest_ms = 0
        self._newest_ms: dict[Place, int] = {}

    def run(self, figures: Figures, take: Take, tell: Callable[[Progress], None]) -> Outcome:
        """Answer and compare everything; ``take`` gets the rows as they are complete.

        Raises:
            BrokerError: the broker fails.
        """
        began_s, read, since = time.monotonic(), 0, 0

        def out(pairs: Pairs) -> None:
            if len(pairs):
                figures.add(pairs)
                take(pairs)

        with closing(self._reader()) as reader:
            while not self._is_over(reader):
                for batch in reader.poll(POLL_S):
                    since += len(batch)
                    if batch.topic == self._topics.features:
                        read += len(batch)
                    self._take(batch)
                    out(self.pairing.take())
                elapsed_s = time.monotonic() - began_s
                tell(Progress(min(read, self._total), self._total, read / elapsed_s))
                if since >= EXPIRE_ROWS:
                    since = 0
                    out(self._expired(reader))
            out(self.pairing.expire(None))
        elapsed_s = time.monotonic() - began_s
        tell(Progress(self._total, self._total, read / elapsed_s))
        return Outcome(figures, read, self.pairing.without_live, elapsed_s)

    # Reading

    def _reader(self) -> TopicsReader:
        """Return a reader of the features in the ranges, and of the predictions and labels from
        about their beginning on."""
        topics, partitions = self._topics, self._pipeline.events.partitions
        features = {(topics.features, p): at for p, (at, _) in self._ranges.items()}
        limits = {(topics.features, p): end for p, (_, end) in self._ranges.items()}
        # An event may stand behind one that is later by the lateness, and in another partition's
        # range by as much.
        from_ms = self._begin_ms() - self._pipeline.events.lateness_ms - LEAD_MS
        others: dict[Place, int] = {}
        for topic in (topics.predictions, topics.labels):
            since = offsets_at(self._bootstrap, topic, partitions, max(0, from_ms))
            bounds = offset_bounds(self._bootstrap, topic, partitions)
            for p, (first, end) in bounds.items():
                others[topic, p] = max(first, min(since[p], end))
                limits[topic, p] = end
        return TopicsReader(self._bootstrap, {**features, **others}, limits, LEAD_MS)

    def _begin_ms(self) -> int:
        """Return the smallest record time at the ranges' beginnings."""
        firsts = {p: (first, min(end, first + 1)) for p, (first, end) in self._ranges.items()}
        batches = read_ranges(self._bootstrap, self._topics.features, firsts)
        return min((int(batch.timestamps_ms[0]) for batch in batches), default=0)

    def _is_over(self, reader: TopicsReader) -> bool:
        """Whether all features are read, and what belongs to them of the others."""
        for place, end in reader.limits.items():
            if reader.positions[place] >= end:
                continue
            if place[0] == self._topics.features:
                return False
            wait_ms = self._within_ms if place[0] == self._topics.labels else 0
            wait_ms += self._pipeline.events.lateness_ms + LEAD_MS
            if self._newest_ms.get(place, 0) <= self._latest_ms + wait_ms:
                return False
        return True

    def _take(self, batch: LogBatch) -> None:
        place = (batch.topic, batch.partition)
        self._newest_ms[place] = int(np.median(batch.timestamps_ms))
        if batch.topic == self._topics.features:
            self._answer(batch)
        elif batch.topic == self._topics.predictions:
            found = self._live.predictions(batch)
            rows = found.rows
            self.pairing.add_live(
                found.event_ids,
                _live_rows(self._task, rows["score"], rows["extra"]),
                rows["version"].astype(np.int64),
                rows["event_time_ms"],
            )
        else:
            labels, _ = self._labels.decode(batch)
            self.pairing.add_labels(labels.event_ids, labels.labels, labels.times_ms)

    def _expired(self, reader: TopicsReader) -> Pairs:
        """Let go of what nothing more can come to: all inputs are beyond it."""
        times = [
            self._newest_ms.get(place)
            for place, end in reader.limits.items()
            if reader.positions[place] < end
        ]
        known = [time_ms for time_ms in times if time_ms is not None]
        if not known or len(known) < len(times):
            return self.pairing.take()
        return self.pairing.expire(min(known) - self._pipeline.events.lateness_ms - LEAD_MS)

    # Answering

    def _answer(self, batch: LogBatch) -> None:
        rows = self._codec.decode(batch)
        asked: Asked
        if self._last:
            # What was emitted again has no history of its own.
            events = self._histories[batch.partition]
            looked = events.look(rows)
            new = looked.rows >= 0
            asked = events.histories(looked.rows[new], self._last)
        else:
            new = not_answered(rows.source_offsets, self._newest.get(batch.partition, -1))
            asked = rows if new.all() else _only(rows, new)
        if new.any():
            self._newest[batch.partition] = int(rows.source_offsets[new].max())
            answers = checked_answers(self._predict, asked, self._task)
            ids = [rows.event_ids[i] for i in np.flatnonzero(new).tolist()]
            times_ms = rows.event_times_ms[new]
            self.pairing.add_answers(ids, _answer_rows(self._task, answers), times_ms)
            self._latest_ms = max(self._latest_ms, int(np.median(times_ms)))
        if self._last:
            events.confirm(looked, batch.next_offset)

    def _begin_histories(self, home: Path) -> dict[int, EntityEvents]:
        """Return the events before the ranges, from the workers' snapshots and the log."""
        pipeline = self._pipeline
        keeper = history_keeper(
            self._bootstrap, self._topics, pipeline.definitions, pipeline.events,
            pipeline.labels, home, "inference",
        )  # fmt: skip
        found = {}
        for p, (first, _) in self._ranges.items():
            place = (self._topics.features, p)
            events = keeper.opened(place, first, None, self._last)
            keeper.move(events, place, first)
            found[p] = events
        return found


def _only(rows: FeatureRows, chosen: NDArray[np.bool_]) -> FeatureRows:
    """Return the model inputs of the rows where ``chosen`` (n,) holds; the rest stays behind."""
    keep = np.flatnonzero(chosen)
    return replace(
        rows,
        event_ids=[rows.event_ids[i] for i in keep.tolist()],
        entities=[rows.entities[i] for i in keep.tolist()],
        event_times_ms=rows.event_times_ms[keep],
        source_offsets=rows.source_offsets[keep],
        numeric=rows.numeric[keep],
        categories=[[texts[i] for i in keep.tolist()] for texts in rows.categories],
        groups=[],
        label_offsets=None,
        origin_partitions=None,
        origin_offsets=None,
    )


def _live_rows(
    task: Task, scores: NDArray[np.float64], extra: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return a row (n, width) per prediction, as :mod:`serving.monitoring.told` has it."""
    match task:
        case Binary():
            return scores[:, None]
        case MultiClass():
            return extra
        case _:
            return np.column_stack([scores, extra[:, 0]])


def _answer_rows(task: Task, answers: Answers) -> NDArray[np.float64]:
    spread = np.full(len(answers), np.nan) if answers.spread is None else answers.spread
    extra = answers.probabilities if isinstance(task, MultiClass) else spread[:, None]
    return _live_rows(task, answers.score, np.empty((0, 0)) if extra is None else extra)


def feature_ranges(
    bootstrap: str, pipeline: Pipeline, definition: int, first: int | None, end: int | None,
    by_time: tuple[bool, bool],
) -> Ranges:  # fmt: skip
    """Return partition → [first, end) of a definition's features.

    ``first`` and ``end`` are offsets, or milliseconds since the epoch where ``by_time`` says so;
    None for the whole.
    """
    topic = replace(pipeline.topics, definition=definition).features
    n = pipeline.events.partitions
    bounds = offset_bounds(bootstrap, topic, n)

    def offsets(place: int | None, is_time: bool, otherwise: Mapping[int, int]) -> dict[int, int]:
        if place is None:
            return dict(otherwise)
        return offsets_at(bootstrap, topic, n, place) if is_time else dict.fromkeys(bounds, place)

    starts = offsets(first, by_time[0], {p: low for p, (low, _) in bounds.items()})
    ends = offsets(end, by_time[1], {p: high for p, (_, high) in bounds.items()})
    found = {}
    for p, (low, high) in bounds.items():
        start = min(max(low, starts[p]), high)
        found[p] = (start, max(start, min(high, ends[p])))
    return found
