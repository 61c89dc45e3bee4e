"""Linear layers whose answer to a row does not depend on where in the block the row stands.

A matrix product reads rows of floats in vectors of up to 16. Where the rows' length is no multiple
of that, rows begin at different places within a vector, the kernel sums them in different orders,
and the same row answers with different last bits at another place in the block (seen with MKL at
widths like 9 or 33 and few outputs). With the inputs filled up to a multiple, all rows are alike.
torch alone.
"""

from torch import Tensor, nn
from torch.nn import functional

FLOATS = 16  # of a vector of 512 bits


class AlignedLinear(nn.Module):
    """A trained linear layer whose inputs are filled up with zeros; for answering alone."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.missing = -linear.in_features % FLOATS
        self.register_buffer("weight", functional.pad(linear.weight.detach(), (0, self.missing)))
        bias = None if linear.bias is None else linear.bias.detach()
        self.register_buffer("bias", bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (..., outputs) of inputs (..., width)."""
        return functional.linear(functional.pad(inputs, (0, self.missing)), self.weight, self.bias)


def align(network: nn.Module) -> nn.Module:
    """Return a trained network with its linear layers aligned; it is changed in place."""
    for name, child in network.named_children():
        if type(child) is nn.Linear and child.in_features % FLOATS:
            setattr(network, name, AlignedLinear(child))
        else:
            align(child)
    return network


def filled(rows: Tensor) -> Tensor:
    """Return rows (..., W) filled up with zeros to a width that is a multiple of 16."""
    missing = -rows.shape[-1] % FLOATS
    return functional.pad(rows, (0, missing)) if missing else rows


def aligned_product(rows: Tensor, weight: Tensor) -> Tensor:
    """Return rows (n, W) times ``weight`` (W, H): (n, H)."""
    return functional.linear(filled(rows), filled(weight.T.contiguous()))
