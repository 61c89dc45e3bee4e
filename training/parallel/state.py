"""The whole network's state, gathered from the ranks and given back to them."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from training.parallel import shards


def gathered(module: nn.Module) -> dict[str, Tensor]:
    """Return the state of a module as whole tensors on the CPU; all ranks call it.

    Shards are brought together; what is not sharded is taken as it stands here.
    """
    state = module.state_dict()
    return {name: shards.whole(part.detach()).cpu().clone() for name, part in state.items()}


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
        shards.put(tensor, state[name])
