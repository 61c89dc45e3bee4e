"""From windowed values and columns to feature rows: row features, combinations, the order."""

import numpy as np
from numpy.typing import NDArray

from features.definition import (
    Category,
    Combination,
    DayOfWeek,
    Definition,
    Feature,
    HourOfDay,
    Number,
    combine,
    kind_of,
)
from features.engine.calendar import LocalTime
from features.engine.columns import EventColumns
from features.records import FeatureRows
from streams.batch import LogBatch
from streams.expressions import Expression

_DIGITS = np.array([str(i) for i in range(24)], dtype=object)


class RowMaker:
    """Makes the rows of one stage.

    Args:
        definition: the features.
        expressions: what the columns' numbers are.
        earlier: names of the features that the records bring along, in the order of their columns.
        own: names of the features that the stage makes, in the order of their columns.
        is_last: whether the rows are complete; else they hold only the windowed features so far.
    """

    def __init__(
        self,
        definition: Definition,
        expressions: list[Expression],
        earlier: list[str],
        own: list[str],
        is_last: bool,
    ) -> None:
        self._definition = definition
        self._expressions = expressions
        self._earlier = earlier
        self._own = own
        self._is_last = is_last
        windowed = {*earlier, *own}
        names = definition.names("numeric")
        self._names = names if is_last else [name for name in names if name in windowed]
        self._clocks = {
            feature.timezone: LocalTime(feature.timezone)
            for feature in definition.features.values()
            if isinstance(feature, HourOfDay | DayOfWeek)
        }

    def make(
        self,
        batch: LogBatch,
        columns: EventColumns,
        windowed: NDArray[np.float64],
        seen: NDArray[np.int64] | None,
    ) -> FeatureRows:
        """Return the rows of some events.

        ``windowed`` is (n, features of the stage); ``seen`` (n,) the label offsets, where the
        stage reads labels.
        """
        features = self._definition.features.values() if self._is_last else ()
        groups = self._definition.groups if self._is_last else ()
        return FeatureRows(
            partition=batch.partition,
            event_ids=columns.event_ids,
            entities=columns.entities,
            event_times_ms=columns.event_times_ms,
            source_offsets=batch.offsets[columns.rows],
            numeric=self._numeric(columns, windowed),
            categories=[self._category(f, columns) for f in features if kind_of(f) == "category"],
            groups=[columns.texts[name] for name in groups],
            label_offsets=columns.label_offsets if seen is None else seen,
            origin_partitions=columns.origin_partitions,
            origin_offsets=columns.origin_offsets,
        )

    def _numeric(self, columns: EventColumns, windowed: NDArray[np.float64]) -> NDArray[np.float64]:
        features, place = self._definition.features, {n: i for i, n in enumerate(self._names)}
        numeric = np.empty((len(columns.rows), len(self._names)), dtype=np.float64)
        if self._earlier:
            if columns.earlier is None:
                raise TypeError("the decoder gives no features of the earlier stages")
            for i, name in enumerate(self._earlier):
                numeric[:, place[name]] = columns.earlier[:, i]
        for i, name in enumerate(self._own):
            numeric[:, place[name]] = windowed[:, i]
        for name in self._names:
            feature = features[name]
            if isinstance(feature, Number):
                numeric[:, place[name]] = columns.numbers[:, self._expressions.index(feature.of)]
        for name in self._names:
            feature = features[name]
            if isinstance(feature, Combination):
                left, right = numeric[:, place[feature.left]], numeric[:, place[feature.right]]
                numeric[:, place[name]] = combine(feature, left, right)
        # Sums may overflow; what is no number any more is missing, as it is in JSON.
        numeric[~np.isfinite(numeric)] = np.nan
        return numeric

    def _category(self, feature: Feature, columns: EventColumns) -> list[str]:
        match feature:
            case HourOfDay(timezone):
                numbers = self._clocks[timezone].hours(columns.event_times_ms)
            case DayOfWeek(timezone):
                numbers = self._clocks[timezone].weekdays(columns.event_times_ms)
            case Category(field):
                return columns.texts[field]
            case _:
                raise TypeError(f"{feature!r} is no category")
        texts: list[str] = _DIGITS[numbers].tolist()
        return texts
