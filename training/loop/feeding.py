"""Batches of this rank's share, made ready by a thread while the step before them computes."""

import contextlib
import math
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.dataset.examples import HostBatch, SliceArrays, with_unknowns
from training.dataset.order import EpochOrder
from training.parallel.strategy import Batch

AHEAD = 2  # steps that are ready at most


@dataclass(frozen=True, slots=True)
class Plan:
    """Which global batches there are, and which share of each is read here.

    Args:
        examples: in the training slice.
        global_rows: of a step over all shares.
        share: this rank's, out of ``shares``.
        batch: examples per share and micro-batch at most.
        seed: of the training.
        epochs: to go through.
    """

    examples: int
    global_rows: int
    share: int
    shares: int
    batch: int
    seed: int
    epochs: int

    @property
    def pieces(self) -> int:
        """Into how many micro-batches a step is cut; the same on every rank and step."""
        return max(1, math.ceil(self.global_rows / (self.shares * self.batch)))

    @property
    def steps(self) -> int:
        """How many steps an epoch has."""
        return self.order(0).steps

    def order(self, epoch: int) -> EpochOrder:
        """Return the order of an epoch."""
        return EpochOrder(self.examples, self.global_rows, self.seed, epoch)


@dataclass(frozen=True, slots=True)
class Fed:
    """One step's examples on this rank's device.

    ``rows`` and ``weight`` (the sum of the weights) are of the whole global batch.
    """

    epoch: int
    step: int
    pieces: tuple[Batch, ...]
    rows: int
    weight: float
    share_weight: float


class Feed:
    """Goes through the steps from (``epoch``, ``step``) on to the end of the last epoch.

    A context manager: it ends its thread. ``waited_s`` is how long steps had to wait for it.
    """

    def __init__(
        self, train: SliceArrays, plan: Plan, epoch: int, step: int, device: torch.device
    ) -> None:
        self.waited_s = 0.0
        self._train, self._plan, self._device = train, plan, device
        self._ready: queue.Queue[Fed | BaseException] = queue.Queue(AHEAD)
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._make, args=(epoch, step), name="feed", daemon=True
        )

    def __enter__(self) -> Self:
        """Begin to make batches."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the thread."""
        self._ended.set()
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._ready.get_nowait()
            self._thread.join(0.01)

    def take(self) -> Fed:
        """Return the next step's examples; raises what kept the thread from making them."""
        before = time.perf_counter()
        fed = self._ready.get()
        self.waited_s += time.perf_counter() - before
        if isinstance(fed, BaseException):
            raise fed
        return Fed(
            fed.epoch,
            fed.step,
            tuple(on(self._device, piece) for piece in fed.pieces),
            fed.rows,
            fed.weight,
            fed.share_weight,
        )

    def _make(self, epoch: int, step: int) -> None:
        try:
            for fed in self.steps(epoch, step):
                self._ready.put(fed)
                if self._ended.is_set():
                    return
        except BaseException as error:
            self._ready.put(error)

    def steps(self, first_epoch: int, first_step: int) -> Iterator[Fed]:
        """Make the steps from one on, here and now; their tensors lie on the CPU."""
        plan, weights = self._plan, self._train.weights
        for epoch in range(first_epoch, plan.epochs):
            order = plan.order(epoch)
            for step in range(first_step if epoch == first_epoch else 0, order.steps):
                rows = order.batch(step)
                mine = rows[plan.share :: plan.shares]
                pieces = [self._piece(part, epoch) for part in np.array_split(mine, plan.pieces)]
                yield Fed(
                    epoch,
                    step,
                    tuple(_tensors(piece, self._device) for piece in pieces),
                    len(rows),
                    float(len(rows) if weights is None else weights[rows].sum(dtype=np.float64)),
                    sum(float(piece.weights.sum(dtype=np.float64)) for piece in pieces),
                )

    def _piece(self, rows: NDArray[np.int64], epoch: int) -> HostBatch:
        batch = self._train.batch(rows)
        numeric, codes, *others = batch.inputs
        hidden = with_unknowns(codes, rows, self._plan.seed, epoch) if codes.shape[-1] else codes
        return HostBatch((numeric, hidden, *others), batch.targets, batch.weights)


def on(device: torch.device, batch: Batch) -> Batch:
    """Return the batch on a device; the copy runs beside what the CPU does next."""
    if device.type == "cpu":
        return batch
    return Batch(
        tuple(tensor.to(device, non_blocking=True) for tensor in batch.inputs),
        batch.targets.to(device, non_blocking=True),
        batch.weights.to(device, non_blocking=True),
    )


def batch_of(host: HostBatch, device: torch.device) -> Batch:
    """Return the examples as tensors on a device."""
    return on(device, _tensors(host, device))


def _tensors(host: HostBatch, device: torch.device) -> Batch:
    return Batch(
        tuple(_tensor(array, device) for array in host.inputs),
        _tensor(host.targets, device),
        _tensor(host.weights, device),
    )


def _tensor(array: NDArray[Any], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor.pin_memory() if device.type == "cuda" else tensor
