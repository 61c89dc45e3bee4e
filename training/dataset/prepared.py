"""What a training run learns from: examples, split by time, in memory or mapped. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from streams.errors import TrainingError
from training.dataset.texts import CodedTexts
from training.networks.tasks import Task
from training.targets import usable_targets

if TYPE_CHECKING:
    from training.dataset.example_set import ExampleSet, LogColumns


class Columns(Protocol):
    """Feature values of n rows; ``FeatureRows`` and :class:`Examples` are such."""

    @property
    def numeric(self) -> NDArray[np.float64]:
        """Numeric features, shape (n, F), NaN where missing."""
        ...

    @property
    def categories(self) -> Sequence[Sequence[str]]:
        """One column of n texts per category feature, "" where missing."""
        ...


@dataclass(frozen=True, slots=True)
class Examples:
    """n labelled rows in a deterministic order, which is part of what decides the parameters.

    ``numeric`` (n, F) float64, NaN = missing; ``categories`` C columns of n texts, "" = missing;
    ``targets`` (n,) float64: 0 or 1, class numbers, or numbers, as the task has them;
    ``event_times_ms`` (n,) int64, milliseconds since the epoch; ``groups`` G columns of n texts.
    ``places`` (n, 2) are partition and source offset, None where the examples are of no log.
    ``log_rows`` (n,) are the examples' own rows in the log of :class:`PreparedData`, where it has
    one.
    """

    numeric: NDArray[np.float64]
    categories: Sequence[Sequence[str]]
    targets: NDArray[np.float64]
    event_times_ms: NDArray[np.int64]
    groups: Sequence[Sequence[str]] = ()
    places: NDArray[np.int64] | None = None
    log_rows: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Check the shapes against each other; raises TrainingError."""
        n = len(self.targets)
        lengths = {
            "rows of numeric": len(self.numeric),
            "event_times_ms": len(self.event_times_ms),
            **{f"categories[{i}]": len(column) for i, column in enumerate(self.categories)},
            **{f"groups[{i}]": len(column) for i, column in enumerate(self.groups)},
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

    def some(self, rows: slice | NDArray[np.int64]) -> Examples:
        """Return the examples of some rows: a stretch, not copied, or any, copied."""
        return Examples(
            self.numeric[rows],
            [_some(texts, rows) for texts in self.categories],
            self.targets[rows],
            self.event_times_ms[rows],
            [_some(texts, rows) for texts in self.groups],
            None if self.places is None else self.places[rows],
            None if self.log_rows is None else self.log_rows[rows],
        )


@dataclass(frozen=True, slots=True)
class PreparedData:
    """The training slice and, later in event time, the validation slice.

    The names tell the columns of ``numeric`` and ``categories``, in the definition's order.
    ``log`` are the feature records of which histories are made, None for networks without.
    """

    numeric_names: Sequence[str]
    category_names: Sequence[str]
    train: Examples
    validation: Examples
    group_names: Sequence[str] = ()
    log: LogColumns | None = field(default=None, repr=False)

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


def _some(texts: Sequence[str], rows: slice | NDArray[np.int64]) -> Sequence[str]:
    if isinstance(rows, slice):
        return texts[rows]
    return texts.take(rows) if isinstance(texts, CodedTexts) else [texts[i] for i in rows.tolist()]


def split(event_times_ms: NDArray[np.int64], validation: float) -> int:
    """Return the row at which the validation slice begins: the latest ``validation`` share.

    Events of the same time never stand on both sides, so the slice may be a little larger.
    ``event_times_ms`` (n,) ascend.

    Raises:
        TrainingError: all examples have one event time, so nothing can be split by time.
    """
    times = event_times_ms
    wanted = min(len(times) - 1, round(len(times) * (1 - validation)))
    at = int(np.searchsorted(times, times[wanted], "left")) if len(times) else 0
    if at == 0:
        raise TrainingError(
            f"the {len(times)} examples can't be split by time into training and validation: too "
            "few different event times; train later or on a longer window"
        )
    return at


def prepare(examples: ExampleSet, validation: float) -> PreparedData:
    """Return the examples split by time; nothing is copied."""
    at = split(examples.event_times_ms, validation)

    def part(rows: slice) -> Examples:
        return Examples(
            numeric=examples.numeric[rows],
            categories=[texts[rows] for texts in examples.categories],
            targets=examples.targets[rows],
            event_times_ms=examples.event_times_ms[rows],
            groups=[texts[rows] for texts in examples.groups],
            places=examples.places[rows],
            log_rows=None if examples.rows is None else examples.rows[rows],
        )

    return PreparedData(
        numeric_names=examples.numeric_names,
        category_names=examples.category_names,
        train=part(slice(0, at)),
        validation=part(slice(at, len(examples))),
        group_names=examples.group_names,
        log=examples.log,
    )
