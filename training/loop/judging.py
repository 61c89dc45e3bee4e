"""The network's outputs and its loss on the validation slice, computed by all ranks together."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from training.dataset.examples import SliceArrays
from training.loop.feeding import batch_of
from training.parallel.place import Place
from training.parallel.strategy import Loss, Strategy

ROWS = 8192  # of one forward pass


@dataclass(frozen=True)
class Judge:
    """Asks the network of a strategy about a slice.

    ``leads`` says whether this rank is the first of those that read its share: sums over examples
    count each share once.
    """

    strategy: Strategy
    slice: SliceArrays
    loss: Loss
    place: Place
    leads: bool

    def mean_loss(self) -> float:
        """Return the mean loss over all examples, the same on every rank; all ranks call it."""
        total = 0.0
        for rows, outputs in self._outputs():
            targets = torch.from_numpy(self.slice.targets[rows])
            total += float(self.loss(outputs, targets).double().sum())
        return self.place.sum_over_ranks(total if self.leads else 0.0)[0] / len(self.slice)

    def outputs(self) -> NDArray[np.float64]:
        """Return (n, O) outputs for all examples, on every rank; all ranks call it."""
        blocks = self._outputs()
        found = torch.zeros(len(self.slice), blocks[0][1].shape[1], dtype=torch.float64)
        if self.leads:
            for rows, outputs in blocks:
                found[torch.from_numpy(rows)] = outputs
        if self.place.ranks > 1:
            shared = found.to(self.place.device)
            dist.all_reduce(shared)
            found = shared.cpu()
        array: NDArray[np.float64] = found.numpy()
        return array

    def _outputs(self) -> list[tuple[NDArray[np.int64], torch.Tensor]]:
        """Return rows and outputs (float64, on the CPU) of this share, in equally many blocks."""
        shares, count = self.strategy.shares, len(self.slice)
        mine = np.array_split(np.arange(count), shares)[self.strategy.share]
        blocks = max(1, math.ceil(math.ceil(count / shares) / ROWS))
        found = []
        for rows in np.array_split(mine, blocks):
            batch = batch_of(self.slice.batch(rows), self.place.device)
            found.append((rows, self.strategy.outputs(batch.inputs).cpu().double()))
        return found


def leads_its_share(strategy: Strategy, place: Place) -> bool:
    """Return whether no rank before this one reads the same share; all ranks call it."""
    if place.ranks == 1:
        return True
    shares = torch.zeros(place.ranks, dtype=torch.int64, device=place.device)
    shares[place.rank] = strategy.share
    dist.all_reduce(shares)
    return strategy.share not in shares[: place.rank].tolist()
