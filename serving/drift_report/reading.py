"""A window of the log, counted in the bins of a model's reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.definition import Definition
from features.records import FeatureCodec, FeatureRows
from serving.drift_report.findings import Observed
from serving.monitoring.label_records import LabelCodec
from serving.monitoring.told import Told, answers_of, can_be_scored, rows_of
from serving.online.lineage import trained_version
from serving.performance.figures import contributions, figures
from serving.pipeline import Pipeline
from serving.spec import DataDrift
from streams.control import ControlFollower, decode_model_events
from streams.durations import seconds
from streams.errors import ConfigurationError
from streams.replay import offset_bounds, offsets_at, read_ranges
from streams.rollout import Rollout
from streams.wire import Registered
from training.package import load_reference
from training.reference import Reference
from training.score_reference import score_counts
from training.validation_scores import calibration_sums

SAMPLE = 20_000
"""At most so many rows of a side are kept as they are, evenly spaced."""
LOOKED_BACK = 1_000
"""Of so many of each partition's last records the newest event time is that of all."""


@dataclass(frozen=True)
class Subject:
    """What the report is about: a version (``trained`` made its reference; of one learned online
    that is another one), and its definition."""

    version: int
    trained: Registered
    metrics: Mapping[str, float]
    definition: Definition
    reference: Reference


@dataclass(frozen=True)
class Rows:
    """Feature values of n rows as they are: ``numeric`` (n, F), ``categories`` C columns of n, and
    their event times (n,)."""

    numeric: NDArray[np.float64]
    categories: list[list[str]]
    times_ms: NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.numeric)

    def thinned(self, every: int, first: int = 0) -> Rows:
        """Return every so many-th row, from row ``first`` on."""
        texts = [column[first::every] for column in self.categories]
        return Rows(self.numeric[first::every], texts, self.times_ms[first::every])


def subject_of(bootstrap: str, pipeline: Pipeline, version: int | None) -> Subject:
    """Return what is known of a version, by default the live one.

    Raises:
        ConfigurationError: there is none.
        ModelError: its package is missing or damaged.
    """
    follower = ControlFollower(bootstrap, pipeline.topics.models)
    try:
        state = Rollout().apply_all(decode_model_events(follower.catch_up()))
    finally:
        follower.close()
    version = state.live if version is None else version
    trained = trained_version(state, version)
    if trained is None:
        known = ", ".join(map(str, sorted(state.versions))) or "none"
        what = f"there is no model {version}" if version else "no model is live"
        raise ConfigurationError(f"{what}, so there is no reference; models are: {known}")
    return Subject(
        version,
        trained,
        state.versions[version].metrics,
        pipeline.definition(trained.definition),
        load_reference(trained.uri, trained.sha256),
    )


def window_of(
    bootstrap: str, pipeline: Pipeline, subject: Subject, start_ms: int | None, end_ms: int | None
) -> tuple[int, int]:
    """Return the window [start, end): what is not given is the newest event's time, and the longest
    window that drift is declared over before it, or a week.

    Raises:
        ConfigurationError: it is empty, or nothing is there.
    """
    if end_ms is None:
        newest_ms = _newest_ms(bootstrap, pipeline, subject.definition)
        if newest_ms is None:
            raise ConfigurationError("there are no feature records yet: let the workers make them")
        end_ms = newest_ms + 1
    if start_ms is None:
        lengths = [seconds(m.window) for m in pipeline.monitors if isinstance(m, DataDrift)]
        start_ms = end_ms - 1000 * max(lengths, default=seconds("7d"))
    if start_ms >= end_ms:
        raise ConfigurationError("--from is not before --to: the window is empty")
    return start_ms, end_ms


def observe(
    bootstrap: str, pipeline: Pipeline, subject: Subject, start_ms: int, end_ms: int
) -> Observed:
    """Return what the window holds: features, and the version's answers with their labels.

    Raises:
        ConfigurationError: it has no events.
        BrokerError: the log can't be read.
    """
    n, counts = 0, dict[str, NDArray[np.int64]]()
    for rows in rows_between(bootstrap, pipeline, subject.definition, start_ms, end_ms):
        n += len(rows)
        for name, found in subject.reference.fine_counts(rows).items():
            counts[name] = counts.get(name, 0) + found
    if not n:
        raise ConfigurationError(
            "the window holds no events: choose another by --from and --to (event time)"
        )
    observed = Observed(start_ms, end_ms, n, counts)
    told = _answers(bootstrap, pipeline, subject.version, start_ms, end_ms)
    if not told:
        return observed
    task = pipeline.model.task
    scores = rows_of(task, list(told.values()))
    whole = can_be_scored(scores)
    observed = replace(observed, scores=score_counts(task, scores[whole]))
    labels = _labels(bootstrap, pipeline, start_ms, told)
    matched = whole & np.isfinite(labels)
    if not matched.any():
        return observed
    sums = calibration_sums(task, answers_of(task, scores[matched]), labels[matched])
    total = contributions(scores[matched], labels[matched], task).sum(axis=0)
    return replace(observed, figures=figures(total), calibration=sums)


def sample(
    bootstrap: str, pipeline: Pipeline, definition: Definition, start_ms: int, end_ms: int
) -> Rows:
    """Return at most :data:`SAMPLE` rows between two event times, evenly spaced in the log; never
    more than twice as many and a batch are kept on the way.

    Raises:
        ConfigurationError: there are none.
    """
    kept: list[Rows] = []
    every, seen, held = 1, 0, 0
    for rows in rows_between(bootstrap, pipeline, definition, start_ms, end_ms):
        kept.append(rows.thinned(every, first=-seen % every))
        seen, held = seen + len(rows), held + len(kept[-1])
        if held >= 2 * SAMPLE:
            kept = [_joined(kept).thinned(2)]
            every, held = 2 * every, len(kept[0])
    if not kept:
        raise ConfigurationError("the log holds no events of the time that is to be compared")
    return _joined(kept).thinned(-(-held // SAMPLE))


def _joined(pieces: Sequence[Rows]) -> Rows:
    columns = range(len(pieces[0].categories))
    texts = [[text for rows in pieces for text in rows.categories[i]] for i in columns]
    times = np.concatenate([rows.times_ms for rows in pieces])
    return Rows(np.concatenate([rows.numeric for rows in pieces]), texts, times)


def trained_between(subject: Subject) -> tuple[int, int]:
    """Return the event times [since, cut-off) that the reference is of.

    Raises:
        ConfigurationError: the model's manifest does not say.
    """
    manifest = subject.trained.manifest
    if "cutoff_ms" not in manifest:
        raise ConfigurationError(
            f"model {subject.trained.version} does not say of which time its reference is: name "
            "one that was trained from the log"
        )
    return manifest.get("since_ms") or 0, int(manifest["cutoff_ms"])


def rows_between(
    bootstrap: str, pipeline: Pipeline, definition: Definition, start_ms: int, end_ms: int
) -> Iterator[Rows]:
    """Yield the feature rows of events in [start, end), each source offset once."""
    topic = pipeline.topics_of(definition).features
    codec = FeatureCodec(definition, pipeline.events, pipeline.labels)
    newest: dict[int, int] = {}
    for batch in read_ranges(bootstrap, topic, _ranges(bootstrap, topic, pipeline, start_ms)):
        rows: FeatureRows = codec.decode(batch)
        before = newest.get(rows.partition, -1)
        highest = np.maximum.accumulate(np.append(before, rows.source_offsets))
        newest[rows.partition] = int(highest[-1])
        times = rows.event_times_ms
        chosen = (rows.source_offsets > highest[:-1]) & (start_ms <= times) & (times < end_ms)
        if chosen.any():
            at = np.flatnonzero(chosen).tolist()
            texts = [[c[i] for i in at] for c in rows.categories]
            yield Rows(rows.numeric[chosen], texts, times[chosen])


def _answers(
    bootstrap: str, pipeline: Pipeline, version: int, start_ms: int, end_ms: int
) -> dict[str, Told]:
    """Return event id → the version's answer, of events in [start, end)."""
    topic, decode = pipeline.topics.predictions, msgspec.json.Decoder(Told).decode
    found: dict[str, Told] = {}
    for batch in read_ranges(bootstrap, topic, _ranges(bootstrap, topic, pipeline, start_ms)):
        for told in (decode(value) for value in batch.values if value is not None):
            if told.model_version == version and start_ms <= told.event_time_ms < end_ms:
                found.setdefault(told.event_id, told)
    return found


def _labels(
    bootstrap: str, pipeline: Pipeline, start_ms: int, told: Mapping[str, Told]
) -> NDArray[np.float64]:
    """Return the first label of each answer's event (n,), NaN where none has come."""
    topic, codec = pipeline.topics.labels, LabelCodec(pipeline.labels, pipeline.model.task)
    found: dict[str, float] = {}
    for batch in read_ranges(bootstrap, topic, _ranges(bootstrap, topic, pipeline, start_ms)):
        rows, _ = codec.decode(batch)
        for event_id, label in zip(rows.event_ids, rows.labels.tolist(), strict=True):
            if event_id in told:
                found.setdefault(event_id, label)
    return np.array([found.get(event_id, np.nan) for event_id in told])


def _ranges(
    bootstrap: str, topic: str, pipeline: Pipeline, from_ms: int
) -> dict[int, tuple[int, int]]:
    partitions = pipeline.events.partitions
    starts = offsets_at(bootstrap, topic, partitions, max(0, from_ms))
    ends = offset_bounds(bootstrap, topic, partitions)
    return {p: (max(starts[p], ends[p][0]), ends[p][1]) for p in starts}


def _newest_ms(bootstrap: str, pipeline: Pipeline, definition: Definition) -> int | None:
    """Return the newest event time among the last records of each partition."""
    topic = pipeline.topics_of(definition).features
    bounds = offset_bounds(bootstrap, topic, pipeline.events.partitions)
    ranges = {p: (max(first, end - LOOKED_BACK), end) for p, (first, end) in bounds.items()}
    times = [int(b.timestamps_ms.max()) for b in read_ranges(bootstrap, topic, ranges) if len(b)]
    return max(times, default=None)
