"""From the fields of a label to what a task learns: 0 or 1, a class number, a number."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import DefinitionError
from streams.expressions import Expression, Value
from training.networks.tasks import Binary, MultiClass, Task


class Targets:
    """Evaluates a label stream's ``target`` as ``task`` understands it.

    A class is looked up by the text or whole number that stands in the field which the target
    names, ``Value("field")``; a class that is a whole number may also be computed.

    Raises:
        DefinitionError: the classes are texts, and the target computes a number.
    """

    def __init__(self, task: Task, target: Expression) -> None:
        self.task, self._target = task, target
        self._numbers: dict[Any, float] = {}
        if isinstance(task, MultiClass):
            self._numbers = {value: float(i) for i, value in enumerate(task.classes)}
            if isinstance(task.classes[0], str) and not isinstance(target, Value):
                raise DefinitionError(
                    f"the classes {task.classes} are texts, and the target {target} computes a "
                    "number: name the field that holds the class, target=Value('field')"
                )

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a label that it reads."""
        return self._target.fields

    def of(self, records: Sequence[Any]) -> NDArray[np.float64]:
        """Return the targets (n,) of decoded labels; NaN, or no target of the task, where none."""
        return self.of_columns({f: list(map(attrgetter(f), records)) for f in self.fields})

    def of_columns(self, columns: Mapping[str, Sequence[Any]]) -> NDArray[np.float64]:
        """Return the targets (n,) of fields, each with n values."""
        if not self._numbers:
            return self._target.evaluate(columns)
        if isinstance(self._target, Value):
            found: Sequence[Any] = columns[self._target.field]
        else:
            found = self._target.evaluate(columns).tolist()
        return np.array([self._numbers.get(value, np.nan) for value in found], np.float64)

    def usable(self, targets: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which of ``targets`` (n,) the task can learn from."""
        return usable_targets(self.task, targets)

    def expected(self) -> str:
        """Return what a target has to be, for people."""
        match self.task:
            case Binary():
                return "0 or 1"
            case MultiClass(classes=classes):
                return f"one of {', '.join(map(str, classes))}"
            case _:
                return "a finite number"


def usable_targets(task: Task, targets: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which of ``targets`` (n,) are such of ``task``: 0 and 1, class numbers, or finite."""
    if isinstance(task, Binary):
        return np.isin(targets, (0.0, 1.0))
    if isinstance(task, MultiClass):
        return np.isin(targets, np.arange(len(task.classes), dtype=np.float64))
    return np.isfinite(targets)
