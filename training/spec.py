"""What a pipeline file says of its model and of when and on what it is trained."""

from dataclasses import dataclass

from streams.durations import seconds
from streams.errors import DefinitionError


@dataclass(frozen=True)
class Model:
    """The network and its optimisation.

    Args:
        prior: the probability that version 0 answers before anything was trained.
        hidden: widths of the hidden layers.
        dropout: probability of dropping a hidden unit in training.
        epochs: passes over the training slice at most (early stopping may end before).
        batch: examples per rank and step.
        accumulate: micro-batches per optimiser step.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        half_life: age at which an example counts half ("14d"), or None for equal weights.
    """

    prior: float = 0.5
    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.0
    epochs: int = 8
    batch: int = 512
    accumulate: int = 1
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    half_life: str | None = None

    def __post_init__(self) -> None:
        """Check the ranges; raises DefinitionError."""
        if not 0 < self.prior < 1:
            raise DefinitionError(f"prior={self.prior} of the model: a probability in (0, 1)")
        if not self.hidden or min(self.hidden) < 1:
            raise DefinitionError(f"hidden={self.hidden} of the model: at least one layer, width 1")
        for name in ("epochs", "batch", "accumulate"):
            if getattr(self, name) < 1:
                raise DefinitionError(f"{name}={getattr(self, name)} of the model: at least 1")
        if self.half_life is not None:
            seconds(self.half_life)


@dataclass(frozen=True)
class Training:
    """When a model is trained, and on what. All times are event time.

    Args:
        first_after: after how much of the stream the first model is trained.
        every: the schedule, or None for none.
        window: how far back the examples reach, or None for the whole log.
        cooldown: least time between two trainings; an alert within it causes none.
        validation: share of the examples, the latest ones, kept for validation and calibration.
        minimum_examples: fewer labelled examples than this refuse the training.
        seed: of everything random in it.
    """

    first_after: str = "30d"
    every: str | None = "7d"
    window: str | None = "60d"
    cooldown: str = "3d"
    validation: float = 0.15
    minimum_examples: int = 500
    seed: int = 7

    def __post_init__(self) -> None:
        """Check the ranges; raises DefinitionError."""
        if not 0 < self.validation < 0.5:
            raise DefinitionError(f"validation={self.validation} of the training: in (0, 0.5)")
        for length in (self.first_after, self.every, self.window, self.cooldown):
            if length is not None:
                seconds(length)
