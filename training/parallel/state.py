"""The whole network's state, gathered from the ranks and given back to them."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, distribute_tensor


def gathered(module: nn.Module) -> dict[str, Tensor]:
    """Return the state of a module as whole tensors on the CPU; all ranks call it.

    Shards are brought together; what is not sharded is taken as it stands here.
    """
    return {name: _whole(tensor).cpu().clone() for name, tensor in module.state_dict().items()}


def exchanged(
    mine: Mapping[str, Tensor],
    owners: Mapping[str, tuple[int, torch.Size, torch.dtype]],
    mesh: DeviceMesh,
    device: torch.device,
) -> dict[str, Tensor]:
    """Return the tensors of all stages of a pipeline, on the CPU, in the order of ``owners``.

    ``owners``: by name, the stage that has it, its shape and its dtype.
    """
    group = mesh.get_group()
    whole = {}
    for name, (stage, shape, dtype) in owners.items():
        tensor = mine[name] if name in mine else torch.empty(shape, dtype=dtype)
        tensor = tensor.to(device)
        dist.broadcast(tensor, dist.get_global_rank(group, stage), group=group)
        whole[name] = tensor.cpu()
    return whole


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
