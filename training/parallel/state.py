"""The whole network's state, gathered from the ranks and given back to them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def gathered(module: nn.Module) -> dict[str, Tensor]:
    """Return the state of a module as whole tensors on the CPU; all ranks call it.

    Shards are brought together; what is not sharded is taken as it stands here.
    """
    return {name: _whole(tensor).cpu().clone() for name, tensor in module.state_dict().items()}


@torch.no_grad()
def put(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a whole state into a module, of each tensor the part that lies here; names must fit.

    Raises:
        KeyError: the state lacks a tensor of the module.
    """
    for name, tensor in module.state_dict().items():
        whole = state[name].to(device=tensor.device, dtype=tensor.dtype)
        if isinstance(tensor, DTensor):
            part = distribute_tensor(
                whole, tensor.device_mesh, tensor.placements, src_data_rank=None
            )
            tensor.to_local().copy_(part.to_local())
        else:
            tensor.copy_(whole)


def _whole(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
