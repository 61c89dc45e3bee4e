"""The features of rows that are asked for, as models see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definition import Definition
from features.records import FeatureRows
from features.store.columnar import OnlineStore
from features.store.online_rows import Found, OnlineRows, RowColumns, Wanted
from serving.http.contract import AskedRow
from serving.inference.answers import Predict, checked_answers
from streams.stream import EventStream, LabelStream
from training.answers import Answers
from training.networks.tasks import Task


class Rows:
    """Makes the features of rows, of one definition; for one thread."""

    def __init__(
        self,
        store: OnlineStore,
        definition: Definition,
        events: EventStream,
        labels: LabelStream | None,
        project: str,
    ) -> None:
        self.online = OnlineRows(store, definition, events, labels, project)
        self.columns = RowColumns(definition)
        self._entity, self._declared = events.entity, tuple(definition.features)

    def of_store(self, rows: Sequence[AskedRow], at_ms: Sequence[int]) -> list[Found]:
        """Return what the store has of rows."""
        return self.online.read(
            [
                Wanted({self._entity: row.entity, **row.keys}, at, row.event)
                for row, at in zip(rows, at_ms, strict=True)
            ]
        )

    def of_given(self, row: AskedRow) -> dict[str, Any]:
        """Return given features in declared order; combinations that were left out are made."""
        given = row.values or {}
        values = {name: given.get(name) for name in self._declared}
        left_out = [name for name in self._declared if name not in given]
        if left_out:
            self.columns.combine([values], left_out)
        return values


def feature_rows(
    columns: RowColumns, entities: list[str], values: Sequence[dict[str, Any]]
) -> FeatureRows:
    """Return n rows as what a model answers."""
    n = len(values)
    none = np.zeros(n, np.int64)
    return FeatureRows(
        0, entities, entities, none, none, columns.numbers(values), columns.texts(values), []
    )


def scored(
    models: Mapping[int, Predict], asked: FeatureRows, versions: NDArray[np.int64], task: Task
) -> Answers:
    """Return the answers to n rows, each by its version of ``versions`` (n,).

    Raises:
        ModelError: a model gives no answers of the task.
    """
    named = np.unique(versions).tolist()
    if len(named) == 1:
        return checked_answers(models[named[0]], asked, task)
    places = [np.flatnonzero(versions == version) for version in named]
    parts = [
        checked_answers(models[version], _taken(asked, at), task)
        for version, at in zip(named, places, strict=True)
    ]
    return _together(len(asked), places, parts)


def _taken(rows: FeatureRows, at: NDArray[np.int64]) -> FeatureRows:
    """Return the rows at places (k,)."""
    places = at.tolist()
    entities = [rows.entities[i] for i in places]
    categories = [[texts[i] for i in places] for texts in rows.categories]
    none = np.zeros(len(places), np.int64)
    return FeatureRows(0, entities, entities, none, none, rows.numeric[at], categories, [])


def _together(n: int, places: Sequence[NDArray[np.int64]], parts: Sequence[Answers]) -> Answers:
    """Return n answers, those of each part at its places."""
    score = np.empty(n)
    first = parts[0]
    probabilities = (
        None if first.probabilities is None else np.empty((n, first.probabilities.shape[1]))
    )
    spread = None if first.spread is None else np.empty(n)
    for at, part in zip(places, parts, strict=True):
        score[at] = part.score
        if probabilities is not None:
            probabilities[at] = part.probabilities
        if spread is not None:
            spread[at] = part.spread
    return Answers(score, probabilities, spread)
