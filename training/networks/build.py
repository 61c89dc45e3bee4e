"""From a shape to the network itself. torch and numpy alone."""

from torch import nn

from training.networks.custom import build_custom
from training.networks.declared import Custom, Tabular, Transformer
from training.networks.shape import Shape
from training.networks.tabular import TabularNetwork
from training.networks.transformer import TransformerNetwork


def build(shape: Shape) -> nn.Module:
    """Return the network of ``shape``, its parameters drawn from torch's own generator.

    Called with numeric inputs (n, W) float32 and codes (n, C) int64 it gives (n, outputs) float32.
    One that sees the last L events takes (n, L, W), (n, L, C) and lengths (n,) int64: the event
    itself stands at L − 1, the one before it at L − 2, and what has no event is zero.

    Importing a :class:`Custom` network executes its module: what is loaded from elsewhere must have
    been allowed before (:func:`training.package.load_package`).

    Raises:
        ModelError: a network of the user's own can't be made, or does not fit the shape.
    """
    match shape.network:
        case Tabular(hidden=hidden, dropout=dropout, experts=experts):
            return TabularNetwork(
                shape.numeric_width, shape.code_counts, hidden, dropout, shape.outputs, experts
            )
        case Transformer() as declared:
            return TransformerNetwork(
                shape.numeric_width, shape.code_counts, declared, shape.outputs
            )
        case Custom() as custom:
            return build_custom(custom, shape)
