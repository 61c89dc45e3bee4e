"""The real trips as the pipeline's processes would see them, day by day, without a broker.

Features by the pipeline's own engine, models by its own training, answers by its own packages: what
:mod:`benchmarks.lockdown` hands to the monitor's fold.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.citibike_source import read
from features.records import FeatureRows
from serving.lab.features import Chain
from serving.monitoring.judging import LiveModel
from serving.monitoring.label_records import LabelCodec, LabelRows
from serving.pipeline import Pipeline
from streams.batch import LogBatch
from streams.durations import seconds
from streams.merging import concatenate, rows_where
from streams.recording import Recording
from training.dataset.prepared import Examples, PreparedData, split
from training.loop.launch import WarmRanks
from training.package import Package, load_package
from training.retraining.fit import discard, fit

DAY_MS = 86_400_000
CODE = ("examples", "features", "training")
"""The packages that decide what a model is."""


@dataclass(frozen=True)
class Day:
    """What came in a step of the pipeline."""

    end_ms: int
    rows: list[FeatureRows]
    labels: LabelRows


def days(folder: Path, pipeline: Pipeline) -> Iterator[Day]:
    """Yield the days of the trips in ``folder``, each with its features and labels."""
    step_ms = seconds(pipeline.step) * 1000
    chain = Chain(pipeline, pipeline.features)
    codec, first = LabelCodec(pipeline.labels, pipeline.model.task), 0
    for end_ms, recording in _cut_by_step(read(folder), step_ms):
        labels = rows_where(recording, recording.is_label)
        n = len(labels)
        offsets = np.arange(first, first + n)
        first += n
        batch = LogBatch(
            pipeline.topics.labels, 0, offsets, labels.timestamps_ms, labels.keys,
            list(labels.values), first,
        )  # fmt: skip
        yield Day(end_ms, list(chain.take(recording)), codec.decode(batch)[0])


def _cut_by_step(recordings: Iterator[Recording], step_ms: int) -> Iterator[tuple[int, Recording]]:
    """Yield (end, records) of each step that has some."""
    kept: list[Recording] = []
    at: int | None = None
    for recording in recordings:
        steps = recording.timestamps_ms // step_ms
        for step in np.unique(steps).tolist():
            if at is not None and step != at:
                yield (at + 1) * step_ms, concatenate(kept)
                kept = []
            at = step
            kept.append(rows_where(recording, steps == step))
    if at is not None:
        yield (at + 1) * step_ms, concatenate(kept)


@dataclass
class Past:
    """All rows and labels so far: what models are trained on."""

    pipeline: Pipeline
    rows: list[FeatureRows] = field(default_factory=list)
    labels: dict[str, float] = field(default_factory=dict)

    def add(self, day: Day) -> None:
        """Take a day."""
        self.rows += day.rows
        for event_id, label in zip(day.labels.event_ids, day.labels.labels.tolist(), strict=True):
            self.labels.setdefault(event_id, label)

    def since(self, from_ms: int) -> list[FeatureRows]:
        """Return the rows from an event time on (and some before)."""
        return [piece for piece in self.rows if int(piece.event_times_ms.max()) >= from_ms]

    def prepared(self, cutoff_ms: int) -> PreparedData:
        """Return what a training with this cut-off learns from, as the trainer joins it: events of
        the window that have a label by now, in the order of their times."""
        training, definition = self.pipeline.training, self.pipeline.features
        since_ms = 0 if training.window is None else cutoff_ms - seconds(training.window) * 1000
        pieces = [_examples(piece, self.labels, since_ms) for piece in self.since(since_ms)]
        whole = Examples(
            np.concatenate([p.numeric for p in pieces]),
            [_joined(p.categories[i] for p in pieces) for i in range(len(pieces[0].categories))],
            np.concatenate([p.targets for p in pieces]),
            np.concatenate([p.event_times_ms for p in pieces]),
        )
        whole = whole.some(np.argsort(whole.event_times_ms, kind="stable"))
        at, n = split(whole.event_times_ms, training.validation), len(whole)
        return PreparedData(
            definition.names("numeric"),
            definition.names("category"),
            whole.some(np.arange(at)),
            whole.some(np.arange(at, n)),
        )


def _examples(piece: FeatureRows, labels: dict[str, float], since_ms: int) -> Examples:
    targets = np.array([labels.get(event_id, np.nan) for event_id in piece.event_ids])
    chosen = np.flatnonzero(np.isfinite(targets) & (piece.event_times_ms >= since_ms))
    return Examples(
        piece.numeric[chosen],
        [[column[i] for i in chosen.tolist()] for column in piece.categories],
        targets[chosen],
        piece.event_times_ms[chosen],
    )


def _joined(columns: Iterator[Sequence[str]]) -> list[str]:
    return [text for column in columns for text in column]


class Trainer:
    """Trains as the pipeline declares; a model made before of the same code is taken from
    ``folder``."""

    def __init__(self, pipeline: Pipeline, folder: Path, launch: WarmRanks) -> None:
        self._pipeline, self._launch = pipeline, launch
        self._folder = folder / _code_digest()
        self.version = 0

    def train(self, past: Past, cutoff_ms: int) -> tuple[LiveModel, Package]:
        """Return the model of a cut-off, as the monitor knows it, and what answers."""
        path = self._folder / str(cutoff_ms)
        if not path.exists():
            work = self._folder / "work"
            shutil.rmtree(work, ignore_errors=True)
            fitted = fit(
                past.prepared(cutoff_ms), self._pipeline.model, self._pipeline.training, work, 1,
                launch=self._launch,
            )  # fmt: skip
            fitted.save(path, {})
            discard(work)
        self.version += 1
        package = load_package(str(path))
        metrics: dict[str, float] = json.loads((path / "manifest.json").read_text())["metrics"]
        reference = package.reference
        return LiveModel(self.version, reference.expected, metrics, reference), package


def answers(package: Package | None, rows: FeatureRows, prior: float) -> NDArray[np.float64]:
    """Return the scores of rows (n,): the package's, or the stated prior."""
    return np.full(len(rows), prior) if package is None else package.predict(rows)


def _code_digest() -> str:
    digest = hashlib.sha256()
    for package in CODE:
        for file in sorted(Path(package).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
