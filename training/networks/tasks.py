"""What a model learns to answer. Declarations alone: no torch here."""

from dataclasses import dataclass

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
