"""Expert parallel: the experts of a mixture dealt over ranks (Lepikhin et al. 2020).

Each rank routes its own rows, sends every row to the rank that holds the expert (all-to-all), lets
its own experts answer what came, and gets its answers back the same way. The balance loss is that
of all shares' rows together.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from streams.errors import DefinitionError
from training.networks.experts import MixtureOfExperts, apply_stacked
from training.networks.shape import Shape
from training.parallel.shards import local
from training.parallel.structure import mixtures

STACKED = ("w1", "b1", "w2", "b2")  # parameters of a mixture whose first dimension is the expert


def deal(network: nn.Module, shape: Shape, mesh: DeviceMesh) -> None:
    """Deal the experts of each mixture over ``mesh``; their parameters become DTensors.

    Raises:
        DefinitionError: the network has no experts, or their number can't be divided.
    """
    from torch.distributed.tensor import Shard, distribute_tensor

    layers, ranks = mixtures(network), mesh.size()
    if not layers:
        name = type(shape.network).__name__
        raise DefinitionError(
            f"Parallel(expert={ranks}): this {name} network has no mixture of experts; leave "
            "expert at 1 or declare experts=Experts(...)"
        )
    for layer in layers:
        if layer.declared.count % ranks:
            raise DefinitionError(
                f"Parallel(expert={ranks}): {layer.declared.count} experts can't be dealt evenly; "
                "make their count a multiple of expert"
            )
        for name in STACKED:
            whole = getattr(layer, name)
            part = distribute_tensor(whole.detach(), mesh, [Shard(0)], src_data_rank=None)
            setattr(layer, name, nn.Parameter(part))
        layer.dispatch = Exchange(layer, mesh)


def balance_over(network: nn.Module, group: dist.ProcessGroup) -> None:
    """Let the mixtures' balance losses be those of all the rows that ``group`` sees."""
    for layer in mixtures(network):
        layer.total = Total(group)


def expert_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the dealt experts that this rank has."""
    stacked = (getattr(layer, name) for layer in mixtures(network) for name in STACKED)
    return [parameter for parameter in stacked if parameter is not None]


class Exchange:
    """Applies experts that lie on several ranks; a mixture's ``dispatch``."""

    def __init__(self, layer: MixtureOfExperts, mesh: DeviceMesh) -> None:
        self._layer = layer
        self._group, self._ranks = mesh.get_group(), mesh.size()
        self._here = layer.declared.count // self._ranks

    def __call__(self, rows: Tensor, experts: Tensor) -> Tensor:
        """Return (A, D): expert ``experts[a]`` of all ranks' experts, applied to ``rows[a]``."""
        order = torch.argsort(experts, stable=True)
        sent = torch.bincount(experts // self._here, minlength=self._ranks)
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=self._group)
        to, come = sent.tolist(), received.tolist()
        numbers = experts.new_empty(sum(come))
        dist.all_to_all_single(numbers, experts[order] % self._here, come, to, group=self._group)
        arrived = _all_to_all(rows[order], come, to, self._group)
        answers = apply_stacked(arrived, numbers, *self._parameters())
        returned = _all_to_all(answers, to, come, self._group)
        return torch.zeros_like(returned).index_copy(0, order, returned)

    def _parameters(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        layer = self._layer
        return local(layer.w1), local(layer.b1), local(layer.w2), local(layer.b2)


class Total:
    """Sums a vector over a group's ranks; a mixture's ``total``."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group

    def __call__(self, values: Tensor) -> Tensor:
        """Return the sum, whose gradient is summed over the ranks too."""
        summed: Tensor = _Sum.apply(values, self._group)
        return summed


def _all_to_all(rows: Tensor, come: list[int], to: list[int], group: dist.ProcessGroup) -> Tensor:
    exchanged: Tensor = _Exchanged.apply(rows, come, to, group)
    return exchanged


class _Exchanged(torch.autograd.Function):
    """All-to-all of rows; the gradients go back the way that the rows came."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, come: list[int], to: list[int], group: dist.ProcessGroup
    ) -> Tensor:
        ctx.route = come, to, group
        out = rows.new_empty(sum(come), *rows.shape[1:])
        dist.all_to_all_single(out, rows.contiguous(), come, to, group=group)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        come, to, group = ctx.route
        back = gradient.new_empty(sum(to), *gradient.shape[1:])
        dist.all_to_all_single(back, gradient.contiguous(), to, come, group=group)
        return back, None, None, None


class _Sum(torch.autograd.Function):
    """Sum over ranks, in both directions."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        total = values.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total, None
