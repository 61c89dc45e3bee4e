"""What a model learns to answer. Declarations alone: no torch here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streams.errors import DefinitionError


@dataclass(frozen=True)
class Binary:
    """The probability that the target is 1; targets are 0 or 1."""

    @property
    def outputs(self) -> int:
        """How many numbers the network gives per example."""
        return 1


@dataclass(frozen=True)
class MultiClass:
    """The probability of each class; the target is one of ``classes``, texts or whole numbers."""

    classes: tuple[str, ...] | tuple[int, ...]

    def __post_init__(self) -> None:
        """Check the classes; raises DefinitionError."""
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise DefinitionError(f"MultiClass({self.classes}): two classes or more, each once")

    @property
    def outputs(self) -> int:
        """How many numbers the network gives per example."""
        return len(self.classes)


@dataclass(frozen=True)
class Regression:
    """The mean of the target, any finite number; the network gives a mean and a log variance.

    The score is that of a normal distribution, whose spread is calibrated like a temperature.
    """

    @property
    def outputs(self) -> int:
        """How many numbers the network gives per example."""
        return 2


Task = Binary | MultiClass | Regression


def task_to_json(task: Task) -> dict[str, Any]:
    """Return a task as plain JSON values."""
    match task:
        case Binary():
            return {"kind": "binary"}
        case MultiClass(classes=classes):
            return {"kind": "multi_class", "classes": list(classes)}
        case Regression():
            return {"kind": "regression"}


def task_from_json(content: Mapping[str, Any]) -> Task:
    """Return the task of :func:`task_to_json`; KeyError, TypeError or ValueError where none."""
    match content["kind"]:
        case "binary":
            return Binary()
        case "multi_class":
            return MultiClass(tuple(content["classes"]))
        case "regression":
            return Regression()
        case other:
            raise ValueError(f"no task is called {other!r}")
