"""Activation checkpointing: forget a block's activations, and compute them again when needed."""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(block: nn.Module) -> None:
    """Let a block keep only its inputs in the forward pass (Chen et al. 2016).

    The block stays the object that it is, so names of parameters do not change. Dropout draws the
    same numbers again, so gradients are the same to the last bit.
    """
    block.forward = partial(checkpoint, block.forward, use_reentrant=False)
