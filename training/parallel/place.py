"""Which rank this is, of how many, and on what it computes."""

import contextlib
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Place:
    """One rank's place; ``dtype`` is what the forward pass computes in."""

    rank: int
    ranks: int
    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Return the context of a forward pass: parameters stay float32, products take dtype."""
        mixed = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype, enabled=mixed)

    def sum_over_ranks(self, *values: float) -> list[float]:
        """Return each value summed over all ranks, the same on every rank."""
        if self.ranks == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(value) for value in total]
