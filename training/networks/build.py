"""From a shape to the network itself. torch and numpy alone."""

from torch import nn

from streams.errors import ModelError
from training.networks.declared import Tabular
from training.networks.shape import Shape
from training.networks.tabular import TabularNetwork


def build(shape: Shape) -> nn.Module:
    """Return the network of ``shape``, its parameters drawn from torch's own generator.

    Called with numeric inputs (n, W) float32 and codes (n, C) int64 it gives (n, outputs) float32.
    One that sees the last L events takes (n, L, W), (n, L, C) and lengths (n,) int64: the event
    itself stands at L − 1, the one before it at L − 2, and what has no event is zero.

    Raises:
        ModelError: the network is none that this version knows.
    """
    match shape.network:
        case Tabular(hidden=hidden, dropout=dropout):
            return TabularNetwork(
                shape.numeric_width, shape.code_counts, hidden, dropout, shape.outputs
            )
        case other:
            raise ModelError(f"{type(other).__name__} networks can't be built by this version")
