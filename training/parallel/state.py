"""The whole network's state, gathered from the ranks and given back to them."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from training.parallel import shards
from training.parallel.meshes import DATA, Meshes


@torch.no_grad()
def gathered(module: nn.Module, meshes: Meshes) -> dict[str, Tensor]:
    """Return the state of a module as whole tensors on the CPU; all ranks call it.

    Shards are brought together. Buffers (running means, say) that each share has made its own are
    those of the first share.
    """
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    whole = {}
    for name, part in module.state_dict().items():
        tensor = shards.whole(part.detach())
        if name not in parameters and meshes.data_ranks > 1:
            group = meshes[DATA].get_group()
            tensor = tensor.clone()
            dist.broadcast(tensor, dist.get_global_rank(group, 0), group=group)
        whole[name] = tensor.cpu().clone()
    return whole


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
