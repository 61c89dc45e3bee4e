"""The replay data set for a training loop of your own: a ``torch.utils.data.IterableDataset``.

::

    slice = SliceArrays.open(folder, "train")  # torch.distributed tells rank and ranks
    dataset = ReplayDataset(slice, batch=512, seed=7)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    for epoch in range(dataset.epoch, epochs):
        dataset.set_epoch(epoch)
        for batch in loader:
            ...
            state = dataset.state_dict(batch)  # where to go on after this batch

The order is that of :class:`training.dataset.order.EpochOrder`: with any number of workers the
batches come in the same order, all ranks have the same number of them, and together the ranks see
each row once per epoch. torch and numpy only.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from streams.errors import TrainingError
from training.dataset.examples import SliceArrays
from training.dataset.order import EpochOrder

_EPOCH, _STEP = 0, 1


class ReplayBatch(NamedTuple):
    """n examples: the network's ``inputs``, each (n, ...); ``targets`` (n,); ``weights`` (n,).

    ``next_step`` is the step of the epoch that comes after this batch.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    weights: Tensor
    next_step: int


class ReplayDataset(IterableDataset[ReplayBatch]):
    """The share of one rank of a slice, in batches; give it to a DataLoader with batch_size=None.

    Args:
        examples: the slice.
        batch: examples per rank and step; the last rank's may have one fewer.
        seed: of the order.
        rank: which rank this is; None asks torch.distributed, and is 0 where that is not started.
        ranks: how many there are; None as above.
    """

    def __init__(
        self,
        examples: SliceArrays,
        *,
        batch: int,
        seed: int,
        rank: int | None = None,
        ranks: int | None = None,
    ) -> None:
        joined = dist.is_available() and dist.is_initialized()
        self._rank = rank if rank is not None else dist.get_rank() if joined else 0
        self._ranks = ranks if ranks is not None else dist.get_world_size() if joined else 1
        if batch < 1 or not 0 <= self._rank < self._ranks:
            raise TrainingError(
                f"ReplayDataset(batch={batch}, rank={self._rank}, ranks={self._ranks}): a batch of "
                "at least 1, and a rank below the number of ranks"
            )
        self._examples, self._batch, self._seed = examples, batch, seed
        # Shared, so that workers that stay between epochs see it.
        self._place = torch.zeros(2, dtype=torch.int64)
        self._place.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def epoch(self) -> int:
        """The epoch that is read."""
        return int(self._place[_EPOCH])

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, the same on every rank."""
        return self._order().steps

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; another one than before begins at its start."""
        if epoch != self.epoch:
            self._place[_EPOCH], self._place[_STEP] = epoch, 0

    def __iter__(self) -> Iterator[ReplayBatch]:
        """Yield this rank's batches from where the epoch stands; of a worker, every n-th."""
        order, worker = self._order(), get_worker_info()
        first, every = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        for step in range(int(self._place[_STEP]) + first, order.steps, every):
            host = self._examples.batch(order.batch(step)[self._rank :: self._ranks])
            yield ReplayBatch(
                tuple(_tensor(array) for array in host.inputs),
                _tensor(host.targets),
                _tensor(host.weights),
                step + 1,
            )

    def state_dict(self, done: ReplayBatch | None = None) -> dict[str, int]:
        """Return where to go on after the batch ``done``; None: where the epoch was entered.

        The batch says it, since a DataLoader's workers are ahead of whoever trains.
        """
        step = int(self._place[_STEP]) if done is None else int(done.next_step)
        return {"epoch": self.epoch, "step": step, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` says; raises TrainingError where it is of another data set."""
        for name, mine in self._identity().items():
            if state.get(name) != mine:
                raise TrainingError(
                    f"the stored read position is of {name}={state.get(name)}, this data set has "
                    f"{mine}: go on with the same data and seed, and the same batch x ranks"
                )
        self._place[_EPOCH], self._place[_STEP] = int(state["epoch"]), int(state["step"])

    def _identity(self) -> dict[str, int]:
        return {
            "examples": len(self._examples),
            "global_rows": self._batch * self._ranks,
            "seed": self._seed,
        }

    def _order(self) -> EpochOrder:
        rows = self._batch * self._ranks
        return EpochOrder(len(self._examples), rows, self._seed, self.epoch)


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
