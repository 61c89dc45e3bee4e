"""Networks of a user's own, good and bad."""

import torch
from torch import Tensor, nn

from training.networks.shape import Shape


class Sum(nn.Module):
    """Answers a scaled sum of the numbers; sees one event or several."""

    def __init__(self, shape: Shape, scale: float = 1.0) -> None:
        super().__init__()
        self.outputs = shape.outputs
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, numeric: Tensor, codes: Tensor, lengths: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return (n, outputs)."""
        total = numeric.flatten(1).sum(dim=1, keepdim=True)
        return (total * self.scale).expand(-1, self.outputs)


class Flat(Sum):
    """Gives no second dimension."""

    def forward(self, numeric: Tensor, codes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return (n,), which is wrong."""
        return super().forward(numeric, codes, lengths)[:, 0]


class Failing(nn.Module):
    """Fails when it is called."""

    def __init__(self, _: Shape) -> None:
        super().__init__()

    def forward(self, *_: Tensor) -> Tensor:
        """Raise."""
        raise RuntimeError("no answer")


class Plain:
    """No network."""
