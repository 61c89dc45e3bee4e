"""One optimiser step: gradients of all micro-batches, unscale, clip, step, average."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from training.loop.averaging import Average
from training.loop.feeding import Fed
from training.loop.run_folder import RankJob
from training.networks.losses import loss_of
from training.parallel.place import Place
from training.parallel.scaling import MeshGradScaler
from training.parallel.strategy import Strategy


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step tells, as scalars on the device: reading them waits for it.

    ``loss`` is Σ weight · loss over this rank's share, ``norm`` the gradient's before clipping.
    """

    loss: Tensor
    norm: Tensor


class Stepper:
    """Takes the steps of a run; parameters, optimiser state and average are float32."""

    def __init__(self, job: RankJob, strategy: Strategy, place: Place) -> None:
        self._job, self._strategy, self._loss = job, strategy, loss_of(job.task)
        self.optimizer = torch.optim.AdamW(
            _groups(strategy.module), lr=job.learning_rate, weight_decay=job.weight_decay
        )
        self.scaler = MeshGradScaler(place, enabled=place.dtype == torch.float16)
        self.average = None if job.ema is None else Average(strategy.module, job.ema)

    def take(self, fed: Fed, rate: float) -> Taken:
        """Take a step by the mean loss of a global batch, at ``rate`` of the peak learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self._job.learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        factor = 1 / max(fed.weight, 1e-12)
        loss = self._strategy.backward(fed.pieces, self._loss, factor, self.scaler.scale)
        self.scaler.unscale_(self.optimizer)
        norm = self._strategy.clip(self._job.clip)
        if self._changed_parameters() and self.average is not None:
            self.average.update()
        return Taken(loss, norm)

    def _changed_parameters(self) -> bool:
        """Step; False where the gradient of a scaled loss overflowed, and so was left out."""
        if not self.scaler.is_enabled():
            self.optimizer.step()
            return True
        before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.scaler.get_scale() >= before


def _groups(module: nn.Module) -> list[dict[str, Any]]:
    """Return the parameters by the mesh that they are spread over: a group is updated at once."""
    groups: dict[DeviceMesh | None, list[nn.Parameter]] = {}
    for parameter in module.parameters():
        tensor: Tensor = parameter
        mesh = tensor.device_mesh if isinstance(tensor, DTensor) else None
        groups.setdefault(mesh, []).append(parameter)
    return [{"params": parameters} for parameters in groups.values()]
