"""What a pipeline file says of its rollout: the stages, what is judged, the guardrails."""

import math
from dataclasses import dataclass, field

from streams.durations import seconds
from streams.errors import DefinitionError
from training.networks.tasks import Binary, MultiClass, Task


@dataclass(frozen=True)
class Guardrails:
    """What a version must keep to beside its metric; None leaves one out. See docs/verdicts.md.

    Each is tripped only beyond chance, and rolls the version back.

    Args:
        latency_ratio: 99 % of the canary's answers within this many times the live version's p99.
        latency_ms: 99 % of the canary's answers within so many milliseconds.
        failures: share of answers that can't be scored (no number, classes missing) above the live
            version's.
        psi: population stability index of the scores against the live version's. Off by default,
            since a better model has other scores; it never rolls back one whose metric is better.
        calibration: |mean score − mean label| above the live version's.
        fairness: the largest difference of the metric between two values of a declared group,
            above the live version's, in units of the metric.
    """

    latency_ratio: float | None = 2.0
    latency_ms: float | None = None
    failures: float | None = 0.001
    psi: float | None = None
    calibration: float | None = 0.05
    fairness: float | None = 0.05

    def __post_init__(self) -> None:
        """Check the ranges; raises DefinitionError."""
        for name in ("latency_ratio", "latency_ms", "failures", "psi", "calibration", "fairness"):
            limit = getattr(self, name)
            if limit is not None and not (math.isfinite(limit) and limit > 0):
                raise DefinitionError(
                    f"{name}={limit} of the guardrails: a number above 0, or None for none"
                )
        if self.failures is not None and self.failures >= 1:
            raise DefinitionError(f"failures={self.failures} of the guardrails: a share below 1")


@dataclass(frozen=True)
class RolloutPolicy:
    """A trained version goes into shadow, then into canary with growing shares, then live.

    Without a policy, a version that passes the trainer's comparison is live at once.

    Args:
        shares: of the entities that a canary answers, stage after stage, growing, in (0, 1).
        metric: the primary metric, a proper score of the task: ``"log_loss"``, ``"brier"`` (of
            classes) or ``"crps"`` (of a regression).
        margin: by how much (in units of the metric) a version may be worse and still pass; None is
            2 % of the live version's own metric, and .01 nats for the log loss of a regression.
        alpha: probability at most that a version which is no worse is ever rolled back for its
            metric, over all stages.
        risk: probability at most that a version which is worse by the margin or more passes.
        minimum: matched labels, of each side, before the first verdict of a stage.
        longest: event time that a stage may last; a version without a verdict by then goes back.
        labelled: share of the predictions older than the usual delay that must have a label; while
            fewer have, no version is promoted.
        guardrails: what a version must keep to beside its metric.
        dry_run: say in the log what would be done, and do nothing.
    """

    shares: tuple[float, ...] = (0.01, 0.10)
    metric: str = "log_loss"
    margin: float | None = None
    alpha: float = 0.05
    risk: float = 0.01
    minimum: int = 300
    longest: str = "14d"
    labelled: float = 0.5
    guardrails: Guardrails = field(default_factory=Guardrails)
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Check the ranges; raises DefinitionError."""
        seconds(self.longest)
        if list(self.shares) != sorted(set(self.shares)) or not all(0 < s < 1 for s in self.shares):
            raise DefinitionError(f"shares={self.shares} of the rollout: growing, in (0, 1)")
        if self.metric not in ("log_loss", "brier", "crps"):
            raise DefinitionError(
                f"metric={self.metric!r} of the rollout: 'log_loss', 'brier' or 'crps'"
            )
        if self.margin is not None and not (math.isfinite(self.margin) and self.margin >= 0):
            raise DefinitionError(f"margin={self.margin} of the rollout: 0 or more, or None")
        for name in ("alpha", "risk"):
            if not 0 < getattr(self, name) < 0.5:
                raise DefinitionError(f"{name}={getattr(self, name)} of the rollout: in (0, 0.5)")
        if self.minimum < 50:
            raise DefinitionError(
                f"minimum={self.minimum} of the rollout: at least 50, or the intervals do not hold"
            )
        if not 0 <= self.labelled <= 1:
            raise DefinitionError(f"labelled={self.labelled} of the rollout: in [0, 1]")

    @property
    def longest_ms(self) -> int:
        """What a stage may last, in milliseconds of event time."""
        return seconds(self.longest) * 1000

    def check_task(self, task: Task) -> None:
        """Raise DefinitionError where the task has no such metric."""
        of_classes = isinstance(task, Binary | MultiClass)
        if self.metric == ("crps" if of_classes else "brier"):
            kind, fits = ("classes", "brier") if of_classes else ("a regression", "crps")
            raise DefinitionError(
                f"metric={self.metric!r} of the rollout is none of {kind}: use 'log_loss' or "
                f"{fits!r}"
            )
