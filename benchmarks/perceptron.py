"""The network of the training benchmark: 64-256-256-1. torch alone."""

from torch import Tensor, nn

from training.networks.shape import Shape

WIDTH = 64
HIDDEN = 256


class Perceptron(nn.Module):
    """Two hidden layers over numeric inputs; what a pipeline would name with ``Custom``."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(shape.numeric_width, HIDDEN), nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN), nn.ReLU(),
            nn.Linear(HIDDEN, shape.outputs),
        )  # fmt: skip

    def forward(self, numeric: Tensor, codes: Tensor) -> Tensor:  # noqa: ARG002
        """Return (n, outputs) of numeric inputs (n, W)."""
        outputs: Tensor = self.layers(numeric)
        return outputs
