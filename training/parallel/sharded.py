"""Sharded data parallel (FSDP2): parameters, gradients and optimiser state cut over data ranks.

A block's parameters are gathered just before it runs, forward and backward, and dropped after;
gradients are summed and cut in one step (Rajbhandari et al. 2020, stage 3; Zhao et al. 2023).
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from training.parallel.meshes import DATA, REPLICA, Meshes
from training.parallel.structure import mixtures


def shard(whole: nn.Module, blocks: Sequence[nn.Module], meshes: Meshes) -> None:
    """Shard each block, then what is left of ``whole``; their parameters become DTensors.

    They are gathered in the dtype of the forward pass; gradients are summed in float32. Experts
    that are dealt over ranks already are cut over the ranks that hold the same ones.
    """
    dtype = meshes.place.dtype
    policy = MixedPrecisionPolicy(
        param_dtype=None if dtype == torch.float32 else dtype, reduce_dtype=torch.float32
    )
    if meshes.expert_ranks > 1:
        # A mixture's output is a view; nothing here changes one in place.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
        for layer in mixtures(whole):
            fully_shard(layer.router, mesh=meshes[DATA], mp_policy=policy)
            experts = fully_shard(layer, mesh=meshes[REPLICA], mp_policy=policy)
            experts.set_gradient_divide_factor(meshes.data_ranks)  # rows of all shares came here
            experts.set_force_sum_reduction_for_comms(True)  # Gloo can't multiply while it sums
    for block in blocks:
        if block is not whole:
            fully_shard(block, mesh=meshes[DATA], mp_policy=policy)
    fully_shard(whole, mesh=meshes[DATA], mp_policy=policy)


class Sharded:
    """FSDP2's gradients: kept unsharded before the last piece, summed and cut in it."""

    def __init__(self, whole: nn.Module) -> None:
        self._whole = whole

    def begin(self, rehearse: Callable[[], None]) -> None:
        """Do nothing: the shards never change."""

    @contextlib.contextmanager
    def piece(self, *, last: bool) -> Iterator[None]:
        """Enter before a piece's forward pass."""
        if isinstance(self._whole, FSDPModule):
            self._whole.set_requires_gradient_sync(last)
        yield

    def finish(self) -> None:
        """Do nothing: FSDP's backward pass has waited."""

    def passed(self) -> None:
        """Drop what was gathered for a forward pass alone: parameters may be written to next."""
        for module in self._whole.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
