"""What a pipeline file says of online learning."""

from dataclasses import dataclass

from streams.errors import DefinitionError


@dataclass(frozen=True)
class Online:
    """A copy of the live model goes on learning from the outcomes, and is published as versions.

    Args:
        batch: outcomes per update.
        learning_rate: of the updates.
        publish_every: outcomes between two versions.
    """

    batch: int = 32
    learning_rate: float = 1e-3
    publish_every: int = 1_000

    def __post_init__(self) -> None:
        """Check the ranges; raises DefinitionError."""
        for name in ("batch", "publish_every"):
            if getattr(self, name) < 1:
                raise DefinitionError(f"{name}={getattr(self, name)} of online: at least 1")
        if self.learning_rate <= 0:
            raise DefinitionError(f"learning_rate={self.learning_rate} of online: above 0")
