"""What passes through a batch prediction: parts of a file, of which some rows can be answered."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.records import FeatureRows
from training.dataset.histories import Histories

Told: TypeAlias = pa.Table | list[dict[str, Any]]
"""n rows as they are told again in the output, beside their answers: a table, or JSON objects."""


@dataclass(frozen=True)
class Refused:
    """A row that can't be answered: its number in the file, from 1 (None: not known), why, and what
    stands there."""

    row: int | None
    reason: str
    record: str


@dataclass(frozen=True)
class Values:
    """The features of n rows, see :class:`training.dataset.prepared.Columns`."""

    numeric: NDArray[np.float64]
    categories: Sequence[Sequence[str]]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.numeric)


@dataclass(frozen=True)
class Part:
    """n rows of a file in its order, and what was refused among them."""

    told: Told
    asked: Values | FeatureRows | Histories
    refused: list[Refused] = field(default_factory=list)


Parts = Iterator[Part]
