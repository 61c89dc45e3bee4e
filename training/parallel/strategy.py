"""What the training loop asks of a network that is spread over ranks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Batch:
    """n examples on this rank's device.

    ``inputs`` are the network's arguments, each (n, ...); ``targets`` (n,); ``weights`` (n,).
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    weights: Tensor


Loss = Callable[[Tensor, Tensor], Tensor]
"""From outputs (n, O) float32 and targets (n,) to one loss per example, (n,)."""

Scale = Callable[[Tensor], Tensor]
"""What a loss passes through before its gradient is taken: a GradScaler's ``scale``."""


class Strategy(Protocol):
    """A network that computes over all ranks, as one of them sees it.

    A global batch is cut into ``shares``, of which this rank reads ``share``: the ranks of one
    tensor or pipeline group read the same.
    """

    shares: int
    share: int

    @property
    def module(self) -> nn.Module:
        """What holds this rank's parameters, under the names that they have in the whole network.

        Its parameters may be DTensors; they are what the optimiser is given.
        """
        ...

    def backward(self, pieces: Sequence[Batch], loss: Loss, factor: float, scale: Scale) -> Tensor:
        """Add the gradients of ``factor`` · Σ weight · loss over all pieces of *all* shares.

        Gradients meet once, at the last piece. Every rank gives the same number of pieces; one
        may be empty. The balance loss of a mixture of experts is added to each piece's with the
        piece's weight: ``factor`` · Σ weight · (loss + balance loss).

        Returns:
            Σ weight · loss over the pieces of this share, without factor and balance: a scalar on
            the device, the same on the ranks of the share.
        """
        ...

    def clip(self, norm: float) -> Tensor:
        """Bring the norm of the whole gradient down to ``norm``; return what it was, a scalar.

        The same on every rank; not finite where the gradient is not.
        """
        ...

    def outputs(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return (n, O) float32 of ``inputs`` of this rank's share, without gradients.

        Called by all ranks of a share with the same inputs, by all shares equally often.
        """
        ...

    def whole_state(self) -> dict[str, Tensor]:
        """Return the whole network's state on the CPU, on every rank; all ranks call it."""
        ...

    def load_whole_state(self, state: Mapping[str, Tensor]) -> None:
        """Put the network into a whole state; all ranks call it with the same."""
        ...
