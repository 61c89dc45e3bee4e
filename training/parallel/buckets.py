"""Gradients that meet over the data ranks where DDP can't let them: shards, experts, stages.

DDP takes no DTensors, no parameters that meet over other ranks than the rest, and no network whose
gradients come in several backward passes. These buckets do as it does otherwise: a bucket is summed
as soon as its last gradient has come, while the backward pass goes on.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.parallel.shards import local

BUCKET_BYTES = 25 * 1024 * 1024  # as DDP's


@dataclass
class _Bucket:
    parameters: list[nn.Parameter]
    group: dist.ProcessGroup
    missing: int = 0
    flat: Tensor | None = None
    work: dist.Work | None = None


@dataclass(frozen=True)
class Meeting:
    """Parameters whose gradients meet over ``group``."""

    parameters: Sequence[nn.Parameter]
    group: dist.ProcessGroup


@dataclass
class _Round:
    """The last piece's backward passes: how many gradients each parameter still waits for."""

    passes: int
    seen: dict[nn.Parameter, int] = field(default_factory=dict)
    launched: int = 0


class Buckets:
    """Sums gradients over groups of ranks, and divides them by the number of ``shares``.

    All ranks of a group launch the buckets in the same order, whatever comes first.
    """

    def __init__(self, meetings: Sequence[Meeting], shares: int) -> None:
        self._shares = shares
        self._buckets = [bucket for meeting in meetings for bucket in _filled(meeting)]
        self._bucket_of = {p: b for b in self._buckets for p in b.parameters}
        self._round: _Round | None = None
        for parameter in self._bucket_of:
            parameter.register_post_accumulate_grad_hook(self._came)  # type: ignore[no-untyped-call]

    def begin(self, rehearse: Callable[[], None]) -> None:
        """Do nothing: the buckets never change."""

    @contextlib.contextmanager
    def piece(self, *, last: bool, passes: int = 1) -> Iterator[None]:
        """Enter before a piece; in the last one each gradient comes in ``passes`` parts."""
        if last:
            self._round = _Round(passes)
            for bucket in self._buckets:
                bucket.missing = len(bucket.parameters)
        yield

    def finish(self) -> None:
        """Return when all gradients have met; one that has not come counts as zero."""
        if self._round is None:
            return
        for bucket in self._buckets[self._round.launched :]:
            _launch(bucket)
        for bucket in self._buckets:
            _settle(bucket, self._shares)
        self._round = None

    def passed(self) -> None:
        """Do nothing."""

    def _came(self, parameter: Tensor) -> None:
        meeting = self._round
        if meeting is None or not isinstance(parameter, nn.Parameter):
            return
        meeting.seen[parameter] = meeting.seen.get(parameter, 0) + 1
        if meeting.seen[parameter] != meeting.passes:
            return
        self._bucket_of[parameter].missing -= 1
        while meeting.launched < len(self._buckets):
            bucket = self._buckets[meeting.launched]
            if bucket.missing:
                return
            _launch(bucket)
            meeting.launched += 1


def _filled(meeting: Meeting) -> Iterator[_Bucket]:
    """Yield buckets of the parameters, last first: that is how their gradients come."""
    parameters: list[nn.Parameter] = []
    size = 0
    for parameter in reversed(meeting.parameters):
        part = local(parameter.detach())
        if parameters and (
            size + part.nbytes > BUCKET_BYTES or parameters[0].dtype != parameter.dtype
        ):
            yield _Bucket(parameters, meeting.group)
            parameters, size = [], 0
        parameters.append(parameter)
        size += part.nbytes
    if parameters:
        yield _Bucket(parameters, meeting.group)


def _launch(bucket: _Bucket) -> None:
    bucket.flat = torch.cat([_gradient(parameter).flatten() for parameter in bucket.parameters])
    bucket.work = dist.all_reduce(bucket.flat, group=bucket.group, async_op=True)


def _settle(bucket: _Bucket, shares: int) -> None:
    if bucket.flat is None or bucket.work is None:
        return
    bucket.work.wait()
    gradients = [_gradient(parameter) for parameter in bucket.parameters]
    parts = torch.split(bucket.flat.div_(shares), [each.numel() for each in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
    bucket.flat = bucket.work = None


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return local(parameter.grad)
