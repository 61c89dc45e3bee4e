"""The norm of a gradient that is spread over ranks, and cutting it down."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.parallel.meshes import Meshes
from training.parallel.shards import holders, local

EPSILON = 1e-6  # as in torch.nn.utils.clip_grad_norm_


def clip(module: nn.Module, meshes: Meshes, norm: float) -> Tensor:
    """Scale the gradients so that the norm of the whole is ``norm`` at most; return what it was.

    The norm is over all parameters of the whole network: over the shards of each, and over the
    stages of a pipeline. Every rank counts each of its shards as 1 / the ranks that hold the same,
    so one sum over all ranks is the whole, and the same on each. The scalar returned is not finite
    where a gradient is not.
    """
    parameters = [p for p in module.parameters() if p.grad is not None]
    gradients = [local(p.grad) for p in parameters if p.grad is not None]
    stage_ranks = meshes.place.ranks // meshes.pipeline_ranks
    copies = [holders(p, stage_ranks) for p in parameters]
    total = _norm(gradients, copies, meshes)
    factor = torch.clamp(norm / (total + EPSILON), max=1.0)
    if gradients:
        torch._foreach_mul_(gradients, factor)
    return total


def _norm(gradients: list[Tensor], copies: list[int], meshes: Meshes) -> Tensor:
    ranks = meshes.place.ranks
    if all(count == ranks for count in copies) and meshes.pipeline_ranks == 1:
        return nn.utils.get_total_norm(gradients)
    if gradients:
        norms = torch.stack(torch._foreach_norm(gradients)).double()
        squares = norms**2 / torch.tensor(copies, dtype=torch.float64, device=norms.device)
        total = squares.sum()
    else:
        total = torch.zeros((), dtype=torch.float64, device=meshes.place.device)
    dist.all_reduce(total)
    return total.sqrt().float()
