"""What a pipeline file says of its model and of when and on what it is trained."""

from dataclasses import dataclass, field
from typing import Literal

from streams.durations import seconds
from streams.errors import DefinitionError
from training.networks.declared import Network, Tabular
from training.networks.tasks import Binary, Task
from training.parallel.declared import Parallel

Precision = Literal["auto", "float32", "bfloat16", "float16"]
RateSchedule = Literal["one_cycle", "cosine", "constant"]


@dataclass(frozen=True)
class Model:
    """The network and its optimisation.

    Args:
        prior: what version 0 answers before anything was trained: the probability of label 1, the
            mean of a regression; not used for several classes, which it takes for equally likely.
        network: :class:`Tabular`, :class:`Transformer` or :class:`Custom`.
        task: :class:`Binary`, :class:`MultiClass` or :class:`Regression`.
        epochs: passes over the training slice at most.
        patience: training stops after so many epochs without a better validation loss.
        batch: examples per rank and micro-batch.
        accumulate: micro-batches per optimiser step. A step sees batch × accumulate × data ranks.
        learning_rate: of AdamW, at the peak of its schedule.
        schedule: of the learning rate.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        half_life: age at which an example counts half ("14d"), or None for equal weights.
        class_weight: ``"balanced"`` lets each class count the same, a number the class 1 that many
            times; None leaves them. The calibration undoes what it does to the probabilities.
        keep_negatives: share of the examples of class 0 that are kept; the others are dropped by
            the seed, and the calibration undoes it.
        ema: keep an average of the parameters with this decay per step, and use it; None for none.
        precision: ``"auto"`` is bfloat16 where the GPU has it, float16 with loss scaling on other
            GPUs, float32 on CPUs.
        compile: compile the network (``torch.compile``).
        recompute: keep no activations of the blocks in the forward pass, and compute them again in
            the backward pass: less memory for a third more work.
        parallel: how it is spread over the ranks.
    """

    prior: float = 0.5
    network: Network = field(default_factory=Tabular)
    task: Task = field(default_factory=Binary)
    epochs: int = 8
    patience: int = 3
    batch: int = 512
    accumulate: int = 1
    learning_rate: float = 3e-3
    schedule: RateSchedule = "one_cycle"
    weight_decay: float = 1e-4
    clip: float = 1.0
    half_life: str | None = None
    class_weight: Literal["balanced"] | float | None = None
    keep_negatives: float = 1.0
    ema: float | None = None
    precision: Precision = "auto"
    compile: bool = False
    recompute: bool = False
    parallel: Parallel = field(default_factory=Parallel)

    def __post_init__(self) -> None:
        """Check the ranges; raises DefinitionError."""
        if isinstance(self.task, Binary) and not 0 < self.prior < 1:
            raise DefinitionError(f"prior={self.prior} of the model: a probability in (0, 1)")
        for name in ("epochs", "patience", "batch", "accumulate"):
            if getattr(self, name) < 1:
                raise DefinitionError(f"{name}={getattr(self, name)} of the model: at least 1")
        for name in ("learning_rate", "clip"):
            if getattr(self, name) <= 0:
                raise DefinitionError(f"{name}={getattr(self, name)} of the model: above 0")
        if self.ema is not None and not 0 < self.ema < 1:
            raise DefinitionError(f"ema={self.ema} of the model: a decay in (0, 1), or None")
        self._check_weighting()
        if self.half_life is not None:
            seconds(self.half_life)

    def _check_weighting(self) -> None:
        if not 0 < self.keep_negatives <= 1:
            raise DefinitionError(
                f"keep_negatives={self.keep_negatives} of the model: a share in (0, 1]"
            )
        if isinstance(self.class_weight, float | int) and self.class_weight <= 0:
            raise DefinitionError(f"class_weight={self.class_weight} of the model: above 0")
        binary = isinstance(self.task, Binary)
        if self.keep_negatives < 1 and not binary:
            raise DefinitionError("keep_negatives of the model: only of a Binary task")
        if isinstance(self.class_weight, float | int) and not binary:
            raise DefinitionError("a class_weight that is a number: only of a Binary task")


@dataclass(frozen=True)
class Training:
    """When a model is trained, and on what. All times are event time, but for the wall clock's.

    Args:
        first_after: after how much of the stream the first model is trained.
        every: the schedule by event time, or None for none.
        every_wall: a schedule by the clock on the wall beside it ("24h"), or None for none.
        start: ``"full"`` trains from fresh parameters, ``"warm"`` goes on from the live model's.
        compare: what a challenger has to show against the live model on examples that are later
            than what either was trained on: ``"not_worse"`` refuses it only where it is worse
            beyond chance, ``"better"`` unless it is better beyond chance, ``"none"`` compares
            without consequence.
        window: how far back the examples reach, or None for the whole log.
        cooldown: least time between two trainings; an alert within it causes none.
        validation: share of the examples, the latest ones, kept for validation and calibration.
        minimum_examples: fewer labelled examples than this refuse the training.
        seed: of everything random in it.
    """

    first_after: str = "30d"
    every: str | None = "7d"
    every_wall: str | None = None
    start: Literal["full", "warm"] = "full"
    compare: Literal["not_worse", "better", "none"] = "not_worse"
    window: str | None = "60d"
    cooldown: str = "3d"
    validation: float = 0.15
    minimum_examples: int = 500
    seed: int = 7

    def __post_init__(self) -> None:
        """Check the ranges; raises DefinitionError."""
        if not 0 < self.validation < 0.5:
            raise DefinitionError(f"validation={self.validation} of the training: in (0, 0.5)")
        for length in (
            self.first_after, self.every, self.every_wall, self.window, self.cooldown
        ):  # fmt: skip
            if length is not None:
                seconds(length)
