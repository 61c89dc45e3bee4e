"""Loss scaling for float16 whose verdict is the same on every rank."""

import torch
import torch.distributed as dist
from torch import Tensor

from training.parallel.place import Place
from training.parallel.shards import local


class MeshGradScaler(torch.amp.GradScaler):
    """torch's ``GradScaler`` over shards: a gradient that overflows on one rank skips the step on
    all of them, also where ranks hold different parameters (shards, stages, experts)."""

    def __init__(self, place: Place, *, enabled: bool) -> None:
        super().__init__(place.device.type, enabled=enabled)
        self._ranks = place.ranks

    def _unscale_grads_(
        self,
        optimizer: torch.optim.Optimizer,
        inv_scale: Tensor,
        found_inf: Tensor,
        allow_fp16: bool,  # noqa: ARG002  (the parameters are float32 always)
    ) -> dict[torch.device, Tensor]:
        gradients = [
            local(parameter.grad)
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        found = found_inf.clone()
        if gradients:
            torch._amp_foreach_non_finite_check_and_unscale_(gradients, found, inv_scale)
        if self._ranks > 1:
            dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return {found.device: found}
