"""What a pipeline file says of its monitors."""

from dataclasses import dataclass

from streams.durations import seconds


@dataclass(frozen=True)
class DataDrift:
    """Population stability index of each feature against the live model's training reference.

    Args:
        window: how much event time one comparison covers; windows slide by the pipeline's step.
        threshold: the PSI from which a difference matters (0.25 is the classic "major shift").
            An alert also needs the PSI to exceed what chance gives at this n.
        minimum: fewer events than this in a window are not compared.
        features: the names to compare, or None for all.
    """

    window: str = "7d"
    threshold: float = 0.25
    minimum: int = 500
    features: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check the window; raises DefinitionError."""
        seconds(self.window)


@dataclass(frozen=True)
class Performance:
    """Log loss, Brier score, accuracy and calibration of the live model on arrived labels.

    Args:
        window: how much event time (of label arrival) one figure covers; slides by the step.
        log_loss_ratio: alert when log loss exceeds the model's own validation log loss by this
            factor, beyond chance.
        calibration_gap: alert when |mean score − mean label| exceeds this, beyond chance.
        minimum: fewer matched labels than this in a window are not judged.
    """

    window: str = "3d"
    log_loss_ratio: float = 1.25
    calibration_gap: float = 0.05
    minimum: int = 500

    def __post_init__(self) -> None:
        """Check the window; raises DefinitionError."""
        seconds(self.window)


Monitor = DataDrift | Performance
