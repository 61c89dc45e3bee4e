"""Tensors of which a rank holds a part, told from those that it holds whole."""

import sys
from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

_MODULE = "torch.distributed.tensor"


def is_part(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Return whether a tensor is a DTensor.

    There is none where its module was never imported; importing it takes seconds, which a run
    without shards does not pay.
    """
    module = sys.modules.get(_MODULE)
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: Tensor) -> Tensor:
    """Return what this rank holds of a tensor, sharing its memory."""
    return tensor.to_local() if is_part(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor with all ranks' parts; they all call it."""
    if not is_part(tensor):
        return tensor
    from torch.distributed.tensor import Replicate

    # One dimension of the mesh at a time, in an order that leaves no gaps between the parts.
    placements = list(tensor.placements)
    for dimension, placement in enumerate(tensor.placements):
        if not placement.is_replicate():
            placements[dimension] = Replicate()
            tensor = tensor.redistribute(placements=placements)
    return tensor.to_local()


def put(tensor: Tensor, content: Tensor) -> None:
    """Copy a whole tensor's ``content`` into ``tensor``, of it the part that lies here."""
    content = content.to(device=tensor.device, dtype=tensor.dtype)
    if not is_part(tensor):
        tensor.copy_(content)
        return
    from torch.distributed.tensor import distribute_tensor

    part = distribute_tensor(content, tensor.device_mesh, tensor.placements, src_data_rank=None)
    tensor.to_local().copy_(part.to_local())


def holders(tensor: Tensor, ranks: int) -> int:
    """Return how many of ``ranks`` hold the same part of a tensor."""
    if is_part(tensor):
        for dimension, placement in enumerate(tensor.placements):
            if not placement.is_replicate():
                ranks //= tensor.device_mesh.size(dimension)
    return ranks
