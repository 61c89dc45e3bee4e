"""What a remembering feature takes from each record: a number, a hashed text, or its presence."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.aggregations import (
    Count,
    DecayedMean,
    DistinctCount,
    First,
    Last,
    Max,
    Mean,
    Min,
    Quantile,
    Rate,
    Remembering,
    Std,
    Sum,
    TimeSinceLast,
    TopShare,
    Variance,
)
from streams.expressions import Columns, Condition, Constant, Expression

OfNumbers = Sum | Mean | Variance | Std | Min | Max | First | Last | Quantile | DecayedMean
OfTexts = DistinctCount | TopShare
OfRecords = Count | Rate | TimeSinceLast


@dataclass(frozen=True)
class Masked(Expression):
    """``of`` where a condition surely holds, elsewhere missing."""

    of: Expression
    where: Condition

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of both."""
        return tuple(dict.fromkeys(self.of.fields + self.where.fields))

    def evaluate(self, columns: Columns) -> NDArray[np.float64]:
        """Return the values, shape (n,)."""
        return np.where(self.where.evaluate(columns) == 1.0, self.of.evaluate(columns), np.nan)


class Text(NamedTuple):
    """A field as text, taken where a condition surely holds; the hash of it is what counts."""

    field: str
    where: Condition | None


def number_of(feature: Remembering) -> Expression | None:
    """Return the number that a feature takes from a record; None where each record counts.

    Equal expressions mean the same column, so features share what they have in common.
    """
    if isinstance(feature, OfTexts):
        return None
    of = feature.of if isinstance(feature, OfNumbers) else None
    if feature.where is None:
        return of
    return Masked(Constant(1.0) if of is None else of, feature.where)


def text_of(feature: Remembering) -> Text | None:
    """Return the text whose hash a feature takes from a record."""
    return Text(feature.field, feature.where) if isinstance(feature, OfTexts) else None
