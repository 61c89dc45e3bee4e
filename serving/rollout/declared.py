"""What a pipeline file says of its rollout: the stages, what is judged, the guardrails."""

from dataclasses import dataclass

from streams.durations import seconds
from streams.errors import DefinitionError


@dataclass(frozen=True)
class RolloutPolicy:
    """A trained version goes into shadow, then into canary with growing shares, then live.

    Without a policy, a version that passes the trainer's comparison is live at once.

    Args:
        shares: of the entities that a canary answers, stage after stage, growing, in (0, 1).
        metric: the primary metric, a proper score of the task: ``"log_loss"`` or ``"brier"``.
        margin: by how much (in units of the metric) a version may be worse and still pass.
        alpha: probability at most that a version which is no worse is rolled back.
        minimum: matched labels, of each side, before the first verdict of a stage.
        longest: event time that a stage may last; a version without a verdict by then goes back.
        dry_run: say in the log what would be done, and do nothing.
    """

    shares: tuple[float, ...] = (0.01, 0.10)
    metric: str = "log_loss"
    margin: float = 0.0
    alpha: float = 0.05
    minimum: int = 500
    longest: str = "14d"
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Check the ranges; raises DefinitionError."""
        seconds(self.longest)
        if list(self.shares) != sorted(set(self.shares)) or not all(0 < s < 1 for s in self.shares):
            raise DefinitionError(f"shares={self.shares} of the rollout: growing, in (0, 1)")
