"""From feature records and scores to the records of the predictions topic, column by column.

Nothing here runs bytecode per event that C code can run: records are built by ``map`` over
msgspec's constructors and encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import compress, repeat
from operator import methodcaller
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.records import FeatureRows
from serving.inference.stretches import Outgoing, RawHeaders
from streams import tracing
from streams.errors import ModelError
from streams.tracing import Spans
from streams.wire import Prediction, Source, Stage, Times
from training.answers import Answers
from training.dataset.histories import Histories
from training.networks.tasks import Binary, MultiClass, Task

_BINARY = Binary()

Asked = FeatureRows | Histories
"""What a model answers: n rows, or n histories where it sees an entity's last events."""

Predict = Callable[[Any], Answers | NDArray[np.float64]]
"""Answers to what is :data:`Asked`; an array (n,) holds the probabilities of label 1."""

FEATURISED_AT = "kappa-featurised-at-ms"
TRACEPARENT = "traceparent"

_encode = msgspec.json.Encoder().encode
_featurised_of = methodcaller("get", FEATURISED_AT)
_trace_of = methodcaller("get", TRACEPARENT)


@dataclass(frozen=True, slots=True)
class Questions:
    """Feature records of one partition that are to be answered; n of each.

    ``offsets`` (n,) are those of the features topic; ``featurised_ms`` and ``traces`` come from the
    records' headers, None where absent.
    """

    rows: FeatureRows
    offsets: NDArray[np.int64]
    featurised_ms: list[int | None]
    traces: list[bytes | None]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.rows.event_ids)

    def select(self, keep: NDArray[np.bool_]) -> Questions:
        """Return the records where ``keep`` (n,) holds."""
        if keep.all():
            return self
        chosen = keep.tolist()
        rows = self.rows
        return Questions(
            rows=replace(
                rows,
                event_ids=list(compress(rows.event_ids, chosen)),
                entities=list(compress(rows.entities, chosen)),
                event_times_ms=rows.event_times_ms[keep],
                source_offsets=rows.source_offsets[keep],
                numeric=rows.numeric[keep],
                categories=[list(compress(texts, chosen)) for texts in rows.categories],
                groups=[list(compress(texts, chosen)) for texts in rows.groups],
                label_offsets=_kept(rows.label_offsets, keep),
                origin_partitions=_kept(rows.origin_partitions, keep),
                origin_offsets=_kept(rows.origin_offsets, keep),
            ),
            offsets=self.offsets[keep],
            featurised_ms=list(compress(self.featurised_ms, chosen)),
            traces=list(compress(self.traces, chosen)),
        )


def questions(
    rows: FeatureRows, offsets: NDArray[np.int64], headers: list[RawHeaders | None]
) -> Questions:
    """Return the rows with what their records' headers say."""
    named = list(map(dict, [pairs or () for pairs in headers]))
    return Questions(
        rows, offsets, _milliseconds(list(map(_featurised_of, named))), list(map(_trace_of, named))
    )


def traced(asked: Questions, topic: str, group: str) -> tuple[Questions, Spans | None]:
    """Begin the spans of what ``group`` has read of ``topic``, if any is to be traced; what is
    answered then names them."""
    if not tracing.is_on() or asked.traces.count(None) == len(asked):
        return asked, None
    offsets: list[int] = asked.offsets.tolist()
    traces = {o: t for o, t in zip(offsets, asked.traces, strict=True) if t is not None}
    spans = tracing.begun(topic, asked.rows.partition, group, traces)
    if spans is None:
        return asked, None
    return replace(asked, traces=list(map(spans.onward.get, offsets))), spans


def not_answered(source_offsets: NDArray[np.int64], answered: int) -> NDArray[np.bool_]:
    """Return which records (n,) are new: their source offset exceeds all those before them.

    ``answered`` is the last source offset answered. A stretch that the feature stage emitted again
    has source offsets that were there before, whatever the batch boundaries.

    >>> not_answered(np.array([5, 6, 7, 6, 7, 8]), 5).tolist()
    [False, True, True, False, False, True]
    """
    before = np.maximum.accumulate(np.concatenate(([answered], source_offsets)))[:-1]
    new: NDArray[np.bool_] = source_offsets > before
    return new


def last_of(model: Predict) -> int:
    """Return how many events of an entity a model sees, or 0 for the one event alone."""
    return int(getattr(model, "last", 0))


def checked_answers(predict: Predict, rows: Asked, task: Task = _BINARY) -> Answers:
    """Return the model's answers; raises ModelError where they are none of ``task``."""
    n = len(rows)
    found = predict(rows)
    answers = found if isinstance(found, Answers) else Answers(np.asarray(found, np.float64))
    if answers.score.shape != (n,):
        raise ModelError(f"the model gave scores of shape {answers.score.shape} for {n} rows")
    match task:
        case MultiClass(classes=classes):
            given = answers.probabilities
            if given is None or given.shape != (n, len(classes)):
                raise ModelError(f"the model's classes are not those that are declared: {classes}")
            _check_probabilities(given)
        case Binary():
            if answers.probabilities is not None or answers.spread is not None:
                raise ModelError(f"the model was trained for another task than {task}")
            _check_probabilities(answers.score)
        case _:
            _check_normal(answers)
    return answers


def _check_probabilities(values: NDArray[np.float64]) -> None:
    good = (values >= 0) & (values <= 1)  # NaN is none
    if not good.all():
        raise ModelError(f"the model gave the score {values[~good][0]}, which is no probability")


def _check_normal(answers: Answers) -> None:
    if not np.isfinite(answers.score).all():
        bad = answers.score[~np.isfinite(answers.score)][0]
        raise ModelError(f"the model gave the score {bad}, which is no number")
    if answers.spread is not None and not bool((answers.spread > 0).all()):
        bad = answers.spread[~(answers.spread > 0)][0]
        raise ModelError(f"the model gave the spread {bad}, which must be above 0")


@dataclass(frozen=True)
class AnswerCodec:
    """Makes the records of one output topic; ``source`` is the CloudEvents source.

    ``task`` names the classes, where there are several.
    """

    features_topic: str
    topic: str
    source: str
    definition: int
    task: Task = _BINARY

    def encode(
        self,
        asked: Questions,
        answers: Answers,
        version: int,
        stage: Stage,
        predicted_ms: int,
    ) -> Outgoing:
        """Return one prediction per question, in order; deterministic but for ``predicted_ms``."""
        rows, partition = asked.rows, asked.rows.partition
        event_times_ms: list[int] = rows.event_times_ms.tolist()
        offsets: list[int] = asked.offsets.tolist()
        start, end = f"{self.features_topic}-{partition}-", f"-v{version}"
        ids = [f"{start}{offset}{end}" for offset in offsets]
        predictions = map(
            Prediction,
            ids,
            rows.event_ids,
            rows.entities,
            answers.score.tolist(),
            repeat(version),
            repeat(stage),
            repeat(self.definition),
            event_times_ms,
            _sources(rows),
            map(Times, event_times_ms, asked.featurised_ms, repeat(predicted_ms)),
            self._probabilities(answers),
            repeat(None) if answers.spread is None else answers.spread.tolist(),
        )
        return Outgoing(
            topic=self.topic,
            partition=partition,
            keys=list(map(str.encode, rows.entities)),
            values=list(map(_encode, predictions)),
            timestamps_ms=event_times_ms,
            headers=self._headers(ids, asked.traces),
        )

    def _probabilities(self, answers: Answers) -> Iterable[dict[str, float] | None]:
        """Return each answer's probabilities by class."""
        if answers.probabilities is None or not isinstance(self.task, MultiClass):
            return repeat(None)
        names = list(map(str, self.task.classes))
        return (dict(zip(names, row, strict=True)) for row in answers.probabilities.tolist())

    def _headers(
        self, ids: list[str], traces: list[bytes | None]
    ) -> list[list[tuple[str, str | bytes]]]:
        """Return the CloudEvents attributes (Kafka binding, binary mode) of each record."""
        common: list[tuple[str, str | bytes]] = [
            ("ce_specversion", b"1.0"),
            ("ce_type", b"kappa.prediction.v1"),
            ("ce_source", self.source.encode()),
            ("content-type", b"application/json"),
        ]
        if traces.count(None) == len(traces):
            return [[*common, ("ce_id", name)] for name in ids]
        return [
            [*common, ("ce_id", name)]
            if trace is None
            else [*common, ("ce_id", name), (TRACEPARENT, trace)]
            for name, trace in zip(ids, traces, strict=True)
        ]


def _sources(rows: FeatureRows) -> Iterable[Source]:
    """Return where in the events topic the rows' events stand."""
    if rows.origin_partitions is None or rows.origin_offsets is None:
        return map(Source, repeat(rows.partition), rows.source_offsets.tolist())
    return map(Source, rows.origin_partitions.tolist(), rows.origin_offsets.tolist())


def _kept(column: NDArray[np.int64] | None, keep: NDArray[np.bool_]) -> NDArray[np.int64] | None:
    return None if column is None else column[keep]


def _milliseconds(texts: list[bytes | None]) -> list[int | None]:
    missing = texts.count(None)
    if missing == len(texts):
        return [None] * missing
    try:
        if not missing:
            return list(map(int, texts))  # type: ignore[arg-type]
        return [None if text is None else int(text) for text in texts]
    except ValueError:
        # A time in a header informs, no more: one that can't be read must not stop the answers.
        return [int(text) if text is not None and text.isdigit() else None for text in texts]
