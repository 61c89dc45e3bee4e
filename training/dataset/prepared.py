"""What a training run learns from: examples in memory, split by time. numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streams.errors import TrainingError
from training.networks.tasks import Task
from training.targets import usable_targets


class Columns(Protocol):
    """Feature values of n rows; ``FeatureRows`` and :class:`Examples` are such."""

    @property
    def numeric(self) -> NDArray[np.float64]:
        """Numeric features, shape (n, F), NaN where missing."""
        ...

    @property
    def categories(self) -> list[list[str]]:
        """One list of n texts per category feature, "" where missing."""
        ...


@dataclass(frozen=True, slots=True)
class Examples:
    """n labelled rows in a deterministic order, which is part of what decides the parameters.

    ``numeric`` (n, F) float64, NaN = missing; ``categories`` C lists of n texts, "" = missing;
    ``targets`` (n,) float64: 0 or 1, class numbers, or numbers, as the task has them;
    ``event_times_ms`` (n,) int64, milliseconds since the epoch.
    """

    numeric: NDArray[np.float64]
    categories: list[list[str]]
    targets: NDArray[np.float64]
    event_times_ms: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check the shapes against each other; raises TrainingError."""
        n = len(self.targets)
        lengths = {
            "rows of numeric": len(self.numeric),
            "event_times_ms": len(self.event_times_ms),
            **{f"categories[{i}]": len(column) for i, column in enumerate(self.categories)},
        }
        for what, length in lengths.items():
            if length != n:
                raise TrainingError(f"training examples: {length} {what} but {n} targets")
        if self.numeric.ndim != 2:
            raise TrainingError(
                f"training examples: numeric has shape {self.numeric.shape}, not (n, features)"
            )

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.targets)


@dataclass(frozen=True, slots=True)
class PreparedData:
    """The training slice and, later in event time, the validation slice.

    The names tell the columns of ``numeric`` and ``categories``, in the definition's order.
    """

    numeric_names: Sequence[str]
    category_names: Sequence[str]
    train: Examples
    validation: Examples

    def __post_init__(self) -> None:
        """Check names against columns, and that there is something to learn; TrainingError."""
        for name, examples in (("training", self.train), ("validation", self.validation)):
            if not len(examples):
                raise TrainingError(
                    f"the {name} slice is empty: train later, on a longer window, or lower "
                    "`validation`"
                )
            shape = (examples.numeric.shape[1], len(examples.categories))
            if shape != (len(self.numeric_names), len(self.category_names)):
                raise TrainingError(
                    f"the {name} slice has {shape[0]} numeric and {shape[1]} category columns, "
                    f"the definition {len(self.numeric_names)} and {len(self.category_names)}"
                )

    def check_targets(self, task: Task) -> None:
        """Raise TrainingError unless ``task`` can learn from every target."""
        for examples in (self.train, self.validation):
            wrong = examples.targets[~usable_targets(task, examples.targets)]
            if len(wrong):
                raise TrainingError(
                    f"training examples: a target is {wrong[0]}, which is none of a "
                    f"{type(task).__name__} task (see the target expression of the label stream)"
                )
