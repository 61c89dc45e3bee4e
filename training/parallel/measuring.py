"""What a pipeline's ranks did when, and what they held: for its bubble and its memory.

Switch it on around steps, on each rank::

    with measured(strategy) as record:
        strategy.backward([batch], loss, factor, scale)
    record.intervals     # of this rank: (stage, micro-batch, what, start, end)

and bring the ranks' records together: :func:`idle_share` is the bubble.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from training.parallel.strategy import Strategy

Work = Literal["forward", "backward"]


@dataclass(frozen=True, slots=True)
class Interval:
    """One micro-batch's pass through one stage; seconds of ``time.perf_counter``, which is one
    clock for all processes of a machine on Linux."""

    stage: int
    microbatch: int
    work: Work
    start_s: float
    end_s: float


@dataclass
class Record:
    """What one rank's stage did; see the module.

    Attributes:
        intervals: in the order in which they ended. On GPUs the device is waited for at both ends,
            which costs some overlap.
        in_flight: the most micro-batches whose forward pass was done and backward pass was not.
        saved_bytes: the most bytes of activations held for the backward pass at once, parameters
            left out, counted by torch's saved tensors.
    """

    device: torch.device
    intervals: list[Interval] = field(default_factory=list)
    in_flight: int = 0
    saved_bytes: int = 0
    _flying: int = 0
    _held: "_Held | None" = None

    @contextlib.contextmanager
    def passing(self, stage: int, microbatch: int, work: Work, module: nn.Module) -> Iterator[None]:
        """Measure one pass of a micro-batch through a stage."""
        start = self._now()
        if work == "forward":
            held = self._held = self._held or _Held(module)
            with torch.autograd.graph.saved_tensors_hooks(held.pack, held.unpack):
                yield
            self._flying += 1
            self.in_flight = max(self.in_flight, self._flying)
            self.saved_bytes = max(self.saved_bytes, held.peak)
        else:
            yield
            self._flying -= 1
        self.intervals.append(Interval(stage, microbatch, work, start, self._now()))

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


@contextlib.contextmanager
def measured(strategy: Strategy) -> Iterator[Record]:
    """Record what this rank's stage does within; a strategy without stages records nothing."""
    record = Record(next(strategy.module.parameters()).device)
    if hasattr(strategy, "record"):
        strategy.record = record
    try:
        yield record
    finally:
        if hasattr(strategy, "record"):
            strategy.record = None


def expected_bubble(stages: int, microbatches: int) -> float:
    """Return the share of time a rank idles, (p − 1) / (m + p − 1) (Huang et al. 2019).

    It holds for GPipe and 1F1B alike, where all stages take the same time.

    >>> expected_bubble(4, 12)
    0.2
    """
    return (stages - 1) / (microbatches + stages - 1)


def idle_share(intervals: Sequence[Interval], stages: int) -> float:
    """Return the share of the ranks' time in which they did nothing, of one step of all ranks."""
    span = max(each.end_s for each in intervals) - min(each.start_s for each in intervals)
    return 1 - sum(each.end_s - each.start_s for each in intervals) / (stages * span)


class _Held:
    """Counts the storages that autograd holds; one that is held twice counts once."""

    def __init__(self, module: nn.Module) -> None:
        self._parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}
        self._holders: dict[int, int] = {}
        self._bytes = 0
        self.peak = 0

    def pack(self, tensor: Tensor) -> "_Saved":
        """Return what autograd keeps in place of a tensor."""
        storage = tensor.untyped_storage()
        at = storage.data_ptr()
        if at in self._parameters:
            return _Saved(tensor, None, 0, 0)
        size = storage.nbytes()
        if not self._holders.get(at):
            self._bytes += size
            self.peak = max(self.peak, self._bytes)
        self._holders[at] = self._holders.get(at, 0) + 1
        return _Saved(tensor, self, at, size)

    def unpack(self, saved: "_Saved") -> Tensor:
        """Return the tensor to autograd."""
        return saved.tensor

    def released(self, at: int, size: int) -> None:
        """Take note that autograd gave up a tensor."""
        self._holders[at] -= 1
        if not self._holders[at]:
            self._bytes -= size


class _Saved:
    __slots__ = ("_at", "_owner", "_size", "tensor")

    def __init__(self, tensor: Tensor, owner: _Held | None, at: int, size: int) -> None:
        self.tensor, self._owner, self._at, self._size = tensor, owner, at, size

    def __del__(self) -> None:
        if self._owner is not None:
            self._owner.released(self._at, self._size)
