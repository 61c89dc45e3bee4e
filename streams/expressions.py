"""The small language in which a pipeline file turns fields of a record into numbers.

An expression is evaluated over the columns of a batch and yields one float64 per record, so that
no Python runs per event. Missing values are NaN.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = Mapping[str, Sequence[Any]]
"""A decoded batch: field name → one value per record, in log order."""


@dataclass(frozen=True)
class Value:
    """The field itself, as a number; booleans become 0 and 1."""

    field: str

    def evaluate(self, columns: Columns) -> NDArray[np.float64]:
        """Return the field's values, shape (n,)."""
        return np.asarray(columns[self.field], dtype=np.float64)  # None becomes NaN


@dataclass(frozen=True)
class Above:
    """1 where the field is greater than ``threshold``, else 0; NaN where it is missing."""

    field: str
    threshold: float

    def evaluate(self, columns: Columns) -> NDArray[np.float64]:
        """Return the comparison, shape (n,)."""
        values = Value(self.field).evaluate(columns)
        return np.where(np.isnan(values), np.nan, (values > self.threshold).astype(np.float64))


@dataclass(frozen=True)
class Equals:
    """1 where the field equals ``value``, else 0; NaN where it is missing."""

    field: str
    value: str | int | bool

    def evaluate(self, columns: Columns) -> NDArray[np.float64]:
        """Return the comparison, shape (n,)."""
        return np.asarray(
            [np.nan if v is None else float(v == self.value) for v in columns[self.field]],
            dtype=np.float64,
        )


Expression = Value | Above | Equals
