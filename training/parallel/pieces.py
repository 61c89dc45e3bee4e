"""Pieces of a batch as a network takes them: never empty, of the rows that are asked for."""

import torch
from torch import Tensor, nn

from training.parallel.strategy import Batch, Loss


def padded(batch: Batch, rows: int) -> Batch:
    """Return the batch with at least ``rows`` examples; those added have weight 0.

    They repeat the last example. Where there is none they are zeros, except that of history
    networks' lengths, which are (n,) integers, since nobody can attend to nothing.
    """
    missing = rows - len(batch.weights)
    if missing <= 0:
        return batch
    return Batch(
        tuple(_extended(tensor, missing, empty=_fill(tensor)) for tensor in batch.inputs),
        _extended(batch.targets, missing, empty=0),
        torch.cat([batch.weights, batch.weights.new_zeros(missing)]),
    )


def weighted_sum(outputs: Tensor, batch: Batch, loss: Loss) -> Tensor:
    """Return Σ weight · loss of outputs (n, O), taken in float32."""
    return (loss(outputs.float(), batch.targets) * batch.weights).sum()


def balance_losses(module: nn.Module) -> list[nn.Module]:
    """Return the layers that hold a balance loss after a forward pass."""
    return [layer for layer in module.modules() if hasattr(layer, "balance_loss")]


def balance(layers: list[nn.Module]) -> Tensor | float:
    """Return the sum of the layers' balance losses."""
    total: Tensor | float = 0.0
    for layer in layers:
        total = total + layer.balance_loss  # type: ignore[operator]
    return total


def _fill(tensor: Tensor) -> int:
    return 1 if tensor.dim() == 1 and not tensor.is_floating_point() else 0


def _extended(tensor: Tensor, missing: int, *, empty: int) -> Tensor:
    if len(tensor):
        return torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])])
    return tensor.new_full((missing, *tensor.shape[1:]), empty)
