"""Early stopping, by the loss on the validation slice, which is later than the training slice."""

from dataclasses import dataclass


@dataclass
class Stopping:
    """Remembers the best epoch, and says when enough epochs have passed without a better one.

    ``patience``: so many. A loss that is not a number is never better.
    """

    patience: int
    best_epoch: int = -1
    best_loss: float = float("inf")

    def better(self, epoch: int, loss: float) -> bool:
        """Take in the loss of an epoch; return whether it is the best so far."""
        if not loss < self.best_loss:
            return False
        self.best_epoch, self.best_loss = epoch, loss
        return True

    def stops(self, epochs: int) -> bool:
        """Return whether training ends after ``epochs`` epochs."""
        return epochs > 0 and epochs - 1 - self.best_epoch >= self.patience
