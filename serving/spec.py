"""What a pipeline file says of its monitors: what is looked at, over which window, from which size
of a difference on it matters.

How sure a monitor has to be is not said per monitor: it follows from the false alarms per week that
:class:`serving.alerting.declared.Alerting` allows for all of them together.
"""

from dataclasses import dataclass
from typing import Literal

from streams.durations import seconds


@dataclass(frozen=True)
class DataDrift:
    """Each feature's distribution against that in the live model's training.

    Args:
        window: how much event time one comparison covers; windows slide by the pipeline's step.
        threshold: the PSI from which a difference matters (0.25 is the classic "major shift").
            An alert also needs the difference to exceed what chance gives at this n.
        minimum: fewer events than this in a window are not compared.
        features: the names to compare, or None for all.
        by_group: compare within each value of the definition's groups too.
    """

    window: str = "7d"
    threshold: float = 0.25
    minimum: int = 500
    features: tuple[str, ...] | None = None
    by_group: bool = False

    def __post_init__(self) -> None:
        """Check the window; raises DefinitionError."""
        seconds(self.window)


@dataclass(frozen=True)
class PredictionDrift:
    """The distribution of the live model's scores against that in its validation.

    Args:
        window: how much event time one comparison covers; windows slide by the pipeline's step.
        threshold: the PSI from which a difference matters.
        minimum: fewer predictions than this in a window are not compared.
    """

    window: str = "7d"
    threshold: float = 0.25
    minimum: int = 500

    def __post_init__(self) -> None:
        """Check the window; raises DefinitionError."""
        seconds(self.window)


@dataclass(frozen=True)
class ConceptDrift:
    """Whether the live model's loss has changed, looked for label by label as they arrive; and, for
    the time in which labels are still to come, what the scores alone say about the loss.

    Args:
        window: how much event time the label-free estimate covers, and how much time of arrival
            the labels that calibration and the loss since a change are told of.
        loss_ratio: alert when the loss since a change exceeds both that before it and that in
            validation by this factor, or the estimated loss that in validation. A regression's:
            when what happened gets, in the geometric mean, so many times less density.
        minimum: fewer matched labels than this since the last alarm raise none.
        label_delay: alert when the median delay of labels exceeds the usual one by this factor.
        detector: what finds the change; see docs/concept_drift.md.
    """

    window: str = "7d"
    loss_ratio: float = 1.25
    minimum: int = 500
    label_delay: float | None = 3.0
    detector: Literal["scan", "adwin", "page_hinkley"] = "scan"

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


@dataclass(frozen=True)
class Fairness:
    """Whether the groups that the definition declares are treated alike, on arrived labels.

    Args:
        window: how much event time one figure covers; slides by the step.
        decision: a score from here on selects, in (0, 1).
        ratio: alert when a group's selection rate is below this share of the highest one (the
            four-fifths rule), beyond chance; None for no alert.
        gap: alert when true or false positive rates (of a regression: mean errors) of two groups
            differ by more than this, beyond chance; None for no alert.
        calibration_gap: alert when mean score − mean label of two groups differ by more than this,
            beyond chance; None for no alert.
        minimum: groups with fewer matched labels than this are not judged.
        groups: the group fields to look at, or None for all that are declared.
    """

    window: str = "30d"
    decision: float = 0.5
    ratio: float | None = 0.8
    gap: float | None = 0.1
    calibration_gap: float | None = 0.1
    minimum: int = 200
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check the window; raises DefinitionError."""
        seconds(self.window)


Monitor = DataDrift | PredictionDrift | ConceptDrift | Performance | Fairness
