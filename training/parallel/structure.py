"""What a network tells of its structure; one that tells nothing is a single block."""

from torch import nn


def blocks(network: nn.Module) -> list[nn.Module]:
    """Return the repeated parts of a network, or the network itself where it names none.

    They are what is recomputed, compiled and sharded one at a time.
    """
    named = getattr(network, "blocks", None)
    return list(named) if isinstance(named, nn.ModuleList) and len(named) else [network]
