"""From the records of predictions and requests to columns, and from matches to outcome records.

Nothing here runs bytecode per record that C code can run, but for the splitting of ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from operator import attrgetter, methodcaller
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.feedback.columns import (
    NONE,
    STAGE_NUMBERS,
    STAGES,
    Answered,
    Matched,
    answer_type,
)
from serving.inference.stretches import Outgoing
from streams.batch import LogBatch
from streams.wire import Outcome, Source, Stage
from training.networks.tasks import Binary, MultiClass, Task

_ID = attrgetter("prediction_id")
_EVENT_AND_ENTITY = attrgetter("event_id"), attrgetter("entity")
_PLACE = attrgetter("source.partition", "source.offset")
_split = methodcaller("rsplit", "-", 3)
_encode = msgspec.json.Encoder().encode


class _Source(msgspec.Struct, gc=False):
    partition: int
    offset: int


class _Times(msgspec.Struct, gc=False):
    featurised_ms: int | None
    predicted_ms: int

    @property
    def latency_ms(self) -> int:
        """From the features' making to the answer; none below 0 where two clocks differ."""
        if self.featurised_ms is None:
            return NONE
        return max(0, self.predicted_ms - self.featurised_ms)


class _Prediction(msgspec.Struct, gc=False):
    """What is needed of a :class:`streams.wire.Prediction`."""

    prediction_id: str
    event_id: str
    entity: str
    score: float
    model_version: int
    stage: Stage
    definition: int
    event_time_ms: int
    source: _Source
    times: _Times
    probabilities: dict[str, float] | None = None
    spread: float | None = None


class _Request(msgspec.Struct, gc=False):
    """What is needed of a :class:`streams.wire.Request`."""

    request_id: str
    event_id: str
    entity: str
    score: float
    model_version: int
    stage: Stage
    definition: int
    asked_ms: int
    answered_ms: int
    probabilities: dict[str, float] | None = None
    spread: float | None = None


_prediction = msgspec.json.Decoder(_Prediction).decode
_request = msgspec.json.Decoder(_Request).decode


def extra_numbers(task: Task) -> int:
    """Return how many numbers an answer has beside its score."""
    match task:
        case Binary():
            return 0
        case MultiClass(classes=classes):
            return len(classes)
        case _:
            return 1


class AnswerReader:
    """Decodes the predictions of pipeline ``name``, in shadow and over HTTP too."""

    def __init__(self, name: str, task: Task) -> None:
        self._name, self._task = name, task
        self._type = answer_type(extra_numbers(task))

    def predictions(self, batch: LogBatch) -> Answered:
        """Return the answers of a stretch of the predictions or the shadow topic."""
        told = [_prediction(value) for value in batch.values if value is not None]
        rows = self._rows(told, batch.partition)
        rows["event_time_ms"] = [each.event_time_ms for each in told]
        rows["latency_ms"] = [each.times.latency_ms for each in told]
        rows["source_partition"] = [each.source.partition for each in told]
        rows["source_offset"] = [each.source.offset for each in told]
        ids = list(map(_ID, told))
        own = self._set_places(rows, ids)
        return _answered(told, rows, own)

    def requests(self, batch: LogBatch) -> Answered:
        """Return the answers of a stretch of the requests topic; the event is the asking."""
        told = [_request(value) for value in batch.values if value is not None]
        rows = self._rows(told, batch.partition)
        rows["event_time_ms"] = [each.asked_ms for each in told]
        rows["latency_ms"] = [each.answered_ms - each.asked_ms for each in told]
        for column in ("source_partition", "source_offset", "features_partition"):
            rows[column] = NONE
        rows["features_offset"] = NONE
        return _answered(told, rows, [each.request_id for each in told])

    def _rows(self, told: Sequence[Any], partition: int) -> NDArray[Any]:
        rows = np.zeros(len(told), self._type)
        rows["score"] = [each.score for each in told]
        rows["version"] = [each.model_version for each in told]
        rows["definition"] = [each.definition for each in told]
        rows["stage"] = [STAGE_NUMBERS[each.stage] for each in told]
        rows["partition"] = partition
        self._set_extra(rows, told)
        return rows

    def _set_extra(self, rows: NDArray[Any], told: Sequence[Any]) -> None:
        match self._task:
            case Binary():
                return
            case MultiClass(classes=classes):
                names, nothing = list(map(str, classes)), dict[str, float]()
                given = [each.probabilities or nothing for each in told]
                rows["extra"] = [[each.get(name, np.nan) for name in names] for each in given]
            case _:
                spreads = [np.nan if each.spread is None else each.spread for each in told]
                rows["extra"][:, 0] = spreads

    def _set_places(self, rows: NDArray[Any], ids: list[str]) -> list[str] | None:
        """Set the places of the feature records, which the ids say: see
        :meth:`serving.inference.answers.AnswerCodec.encode`. Return the ids where one says none."""
        definitions, versions = rows["definition"].tolist(), rows["version"].tolist()
        try:
            topics, partitions, offsets, ends = zip(*map(_split, ids), strict=True)
            rows["features_partition"] = list(map(int, partitions))
            rows["features_offset"] = list(map(int, offsets))
        except ValueError:
            rows["features_partition"], rows["features_offset"] = NONE, NONE
            return ids
        named = set(zip(topics, definitions, strict=True)), set(zip(ends, versions, strict=True))
        if named[0] == {(f"{self._name}.features.v{d}", d) for d in set(definitions)} and (
            named[1] == {(f"v{version}", version) for version in set(versions)}
        ):
            return None
        return ids


def _answered(told: Sequence[Any], rows: NDArray[Any], own: list[str] | None) -> Answered:
    events, entities = (list(map(each, told)) for each in _EVENT_AND_ENTITY)
    return Answered(events, entities, own, rows)


class GroupReader:
    """Decodes the groups of a definition's feature records; ``fields`` are their names."""

    def __init__(self, fields: Sequence[str]) -> None:
        names = [f"f{i}" for i in range(len(fields))]
        groups = msgspec.defstruct(
            "Groups",
            [(name, str) for name in names],
            rename=dict(zip(names, fields, strict=True)),
            gc=False,
        )
        record = msgspec.defstruct(
            "FeatureRecord",
            [("event_id", str), ("event_time_ms", int), ("groups", groups)],
            gc=False,
        )
        self._decode = msgspec.json.Decoder(record).decode
        self._columns = [attrgetter(f"groups.{name}") for name in names]

    def decode(self, batch: LogBatch) -> tuple[list[str], NDArray[np.int64], list[list[str]]]:
        """Return the event ids (n,), the event times (n,), and a list of n texts per field."""
        decode = self._decode
        records: list[Any] = [decode(value) for value in batch.values if value is not None]
        ids = [record.event_id for record in records]
        times_ms = np.array([record.event_time_ms for record in records], np.int64)
        return ids, times_ms, [list(map(column, records)) for column in self._columns]


def outcome_key(prediction_id: str, stage: Stage) -> str:
    """Return a prediction's id, told apart where its version answered in shadow too.

    >>> outcome_key("p.features.v1-0-7-v2", "shadow")
    'p.features.v1-0-7-v2/shadow'
    """
    return f"{prediction_id}/shadow" if stage == "shadow" else prediction_id


class OutcomeWriter:
    """Makes the records of the outcomes topic of pipeline ``name``.

    Args:
        name: of the pipeline.
        topic: the outcomes topic.
        task: names the classes, where there are several.
        groups: the group fields, in the order of the matches' columns.
    """

    def __init__(self, name: str, topic: str, task: Task, groups: Sequence[str]) -> None:
        self._name, self._topic, self._task = name, topic, task
        self._groups = tuple(groups)

    def outgoing(self, matched: Matched, texts: Sequence[str]) -> list[Outgoing]:
        """Return the records by partition; ``texts`` are those of the groups' numbers."""
        made: list[Outgoing] = []
        values, ids = self._values(matched, texts)
        headers = self._headers(ids)
        times = np.maximum(matched.label_times_ms, 1).tolist()  # 0 means "now" to the client
        partitions = matched.rows["partition"]
        for partition in np.unique(partitions).tolist():
            chosen = np.flatnonzero(partitions == partition).tolist()
            parts = (_at(each, chosen) for each in (matched.entities, values, times, headers))
            keys, values_here, times_here, headers_here = parts
            made.append(
                Outgoing(self._topic, partition, keys, values_here, times_here, headers_here)
            )
        return made

    def _values(self, matched: Matched, texts: Sequence[str]) -> tuple[list[bytes], list[str]]:
        rows = matched.rows
        columns = {name: rows[name].tolist() for name in rows.dtype.names or () if name != "extra"}
        ids = self._ids(matched, columns)
        sources = _places(columns["source_partition"], columns["source_offset"])
        outcomes = map(
            Outcome,
            ids,
            matched.event_ids,
            map(bytes.decode, matched.entities),
            columns["score"],
            matched.labels.tolist(),
            columns["version"],
            map(STAGES.__getitem__, columns["stage"]),
            columns["definition"],
            columns["event_time_ms"],
            matched.label_times_ms.tolist(),
            map(Source, matched.label_partitions.tolist(), matched.label_offsets.tolist()),
            sources,
            _known(columns["features_offset"]),
            _known(columns["features_partition"]),
            _known(columns["latency_ms"]),
            *self._extra(rows["extra"]),
            self._grouped(matched.groups, texts),
        )
        return list(map(_encode, outcomes)), ids

    def keys(self, matched: Matched) -> list[str]:
        """Return what no other outcome has: see :func:`outcome_key`."""
        names = ("definition", "features_partition", "features_offset", "version")
        ids = self._ids(matched, {name: matched.rows[name].tolist() for name in names})
        stages = map(STAGES.__getitem__, matched.rows["stage"].tolist())
        return list(map(outcome_key, ids, stages))

    def _ids(self, matched: Matched, columns: Mapping[str, list[int]]) -> list[str]:
        start = f"{self._name}.features.v"
        made = zip(
            columns["definition"], columns["features_partition"], columns["features_offset"],
            columns["version"], matched.own_ids, strict=True,
        )  # fmt: skip
        return [
            f"{start}{definition}-{partition}-{offset}-v{version}" if own is None else own
            for definition, partition, offset, version, own in made
        ]

    def _extra(self, extra: NDArray[np.float64]) -> tuple[Any, Any]:
        """Return the columns of probabilities and spreads."""
        match self._task:
            case Binary():
                return repeat(None), repeat(None)
            case MultiClass(classes=classes):
                names = list(map(str, classes))
                whole: list[bool] = np.logical_and.reduce(np.isfinite(extra), axis=1).tolist()
                given = zip(extra.tolist(), whole, strict=True)
                dicts = [dict(zip(names, row, strict=True)) if ok else None for row, ok in given]
                return dicts, repeat(None)
            case _:
                spreads = extra[:, 0].tolist()
                return repeat(None), [None if np.isnan(spread) else spread for spread in spreads]

    def _grouped(self, groups: NDArray[np.int64], texts: Sequence[str]) -> Any:
        """Return each outcome's groups: field → text."""
        if not self._groups or bool((groups == NONE).all()):
            return repeat(None)
        known: dict[tuple[int, ...], dict[str, str] | None] = {}
        rows = list(map(tuple, groups.tolist()))
        for row in set(rows):
            pairs = zip(self._groups, row, strict=True)
            known[row] = {field: texts[code] for field, code in pairs if code != NONE} or None
        return map(known.__getitem__, rows)

    def _headers(self, ids: list[str]) -> list[list[tuple[str, str | bytes]]]:
        """Return the CloudEvents attributes (Kafka binding, binary mode) of each record."""
        common: list[tuple[str, str | bytes]] = [
            ("ce_specversion", b"1.0"),
            ("ce_type", b"kappa.outcome.v1"),
            ("ce_source", f"/{self._name}/outcomes".encode()),
            ("content-type", b"application/json"),
        ]
        return [[*common, ("ce_id", name)] for name in ids]


def _places(partitions: list[int], offsets: list[int]) -> list[Source | None]:
    return [
        None if offset == NONE else Source(partition, offset)
        for partition, offset in zip(partitions, offsets, strict=True)
    ]


def _known(numbers: list[int]) -> list[int | None]:
    return [None if number == NONE else number for number in numbers]


def _at(values: Sequence[Any], places: list[int]) -> list[Any]:
    return list(values) if len(places) == len(values) else list(map(values.__getitem__, places))
