"""Pipeline parallel: consecutive layers on each rank, micro-batches on their way through them.

GPipe (Huang et al. 2019) does all forward passes, then all backward passes; 1F1B (Narayanan et al.
2019) begins a micro-batch's backward pass as soon as it can, so that a stage holds the activations
of no more micro-batches than there are stages. The gradients are the same.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.distributed.pipelining.schedules import PipelineScheduleSingle

from training.networks.links import Link
from training.networks.shape import Shape
from training.parallel.buckets import Buckets
from training.parallel.data import Gradients
from training.parallel.declared import Parallel
from training.parallel.measuring import Record
from training.parallel.meshes import PIPELINE, Meshes
from training.parallel.norms import clip
from training.parallel.pieces import balance, balance_losses, padded, weighted_sum
from training.parallel.sharded import Sharded
from training.parallel.state import exchanged, gathered, put
from training.parallel.strategy import Batch, Loss, Scale

MICROBATCHES_PER_STAGE = 4


class Stage(nn.Module):
    """This rank's links as one module, from the vectors of the stage before to those it gives."""

    def __init__(self, network: nn.Module, links: Sequence[Link], meshes: Meshes) -> None:
        super().__init__()
        self.network = network
        self._links, self._place = links, meshes.place
        self._first = meshes[PIPELINE].get_local_rank() == 0
        self._balanced = balance_losses(network)
        self.inputs: list[tuple[Tensor, ...]] = []
        self.balance_factors: list[Tensor] = []

    def forward(self, x: Tensor, number: int) -> Tensor:
        """Return what the links make of ``x`` of micro-batch ``number``, in float32.

        The first stage takes its inputs itself. Where there are experts, the gradient of their
        balance loss is added when that of the stage's vectors passes by.
        """
        given: Tensor | None = None if self._first else x
        with self._place.autocast():
            for link in self._links:
                given = link.run(self.inputs[number], given)
        if given is None:
            raise ValueError("a stage has at least one link")
        given = given.float()
        if self._balanced and self.balance_factors and torch.is_grad_enabled():
            extra = balance(self._balanced) * self.balance_factors[number]
            given = _Added.apply(given, extra)
        return given


class Pipelined:
    """The strategy of one stage of a pipeline.

    Args:
        stage: this rank's part; its ``network`` has kept only that.
        owners: by name of the whole network's state: stage, shape and dtype.
    """

    def __init__(
        self,
        stage: Stage,
        owners: Mapping[str, tuple[int, torch.Size, torch.dtype]],
        gradients: Gradients,
        meshes: Meshes,
        shape: Shape,
        parallel: Parallel,
    ) -> None:
        self.module = stage.network
        self.shares, self.share = meshes.data_ranks, meshes.share
        self.record: Record | None = None
        self._stage, self._owners, self._gradients = stage, owners, gradients
        self._meshes, self._shape, self._parallel = meshes, shape, parallel
        self._mesh: DeviceMesh = meshes[PIPELINE]
        self._here = self._mesh.get_local_rank()
        self._stages = parallel.pipeline
        self._count = parallel.microbatches or MICROBATCHES_PER_STAGE * parallel.pipeline
        self._schedules: dict[int, PipelineScheduleSingle] = {}
        self._losses = _Losses()

    def backward(self, pieces: Sequence[Batch], loss: Loss, factor: float, scale: Scale) -> Tensor:
        """Add the gradients of all pieces of all shares; see ``Strategy``."""
        self._stage.train()
        total = torch.zeros((), dtype=torch.float64, device=self._meshes.place.device)
        for number, piece in enumerate(pieces, start=1):
            last = number == len(pieces)
            with self._piece(last=last):
                total += self._pass(piece, loss, factor * self.shares, scale, last=last)
        self._gradients.finish()
        self._from_last(total)
        return total

    def clip(self, norm: float) -> Tensor:
        """Bring the norm of the whole gradient down to ``norm``; return what it was."""
        return clip(self.module, self._meshes, norm)

    @torch.no_grad()
    def outputs(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return (n, O) float32 of this share's ``inputs``: one pass through the stages."""
        self._stage.eval()
        self._stage.inputs = [inputs]
        group, device = self._mesh.get_group(), self._meshes.place.device
        x = inputs[0]
        if self._here:
            x = _received(dist.get_global_rank(group, self._here - 1), group, device)
        x = self._stage(x, number=0)
        self._gradients.passed()
        if self._here + 1 < self._stages:
            _send(x, dist.get_global_rank(group, self._here + 1), group)
            x = torch.empty(len(inputs[0]), self._shape.outputs, device=device)
        self._from_last(x)
        return x

    def whole_state(self) -> dict[str, Tensor]:
        """Return the whole network's state on the CPU; all ranks call it."""
        mine = gathered(self.module, self._meshes)
        return exchanged(mine, self._owners, self._mesh, self._meshes.place.device)

    def load_whole_state(self, state: Mapping[str, Tensor]) -> None:
        """Put this stage into its part of a whole state."""
        put(self.module, state)

    def _piece(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        if isinstance(self._gradients, Buckets):
            return self._gradients.piece(last=last, passes=self._count)
        if isinstance(self._gradients, Sharded):
            return contextlib.nullcontext()  # the schedule itself tells FSDP
        return self._gradients.piece(last=last)

    def _pass(self, batch: Batch, loss: Loss, factor: float, scale: Scale, *, last: bool) -> Tensor:
        """Run one piece through the pipeline; return its Σ weight · loss, 0 but on the last."""
        rows = max(1, -(-len(batch.weights) // self._count))
        whole = padded(batch, rows * self._count)
        parts = [_rows(whole, slice(i * rows, (i + 1) * rows)) for i in range(self._count)]
        self._stage.inputs = [part.inputs for part in parts]
        self._stage.balance_factors = [scale(part.weights.sum() * factor) for part in parts]
        self._losses.begin(parts, loss, factor, scale)
        inputs = [(part.inputs[0],) if self._here == 0 else () for part in parts]
        self._schedule(rows).step(
            arg_mbs=inputs,
            kwarg_mbs=[{"number": number} for number in range(self._count)],
            target_mbs=list(torch.arange(self._count)),  # numbers, on the CPU
            return_outputs=False,
            finalize_gradients=last,
        )
        self._stage.inputs, self._stage.balance_factors = [], []
        return self._losses.end()

    def _schedule(self, rows: int) -> PipelineScheduleSingle:
        """Return the schedule for micro-batches of ``rows``: buffers are of that shape."""
        if rows not in self._schedules:
            stage = _MeasuredStage(
                self._stage, self._here, self._stages, self._meshes.place.device,
                group=self._mesh.get_group(),
            )  # fmt: skip
            stage.strategy = self
            kind = ScheduleGPipe if self._parallel.schedule == "gpipe" else Schedule1F1B
            self._schedules[rows] = kind(stage, self._count, self._losses, scale_grads=False)
        return self._schedules[rows]

    def _from_last(self, tensor: Tensor) -> None:
        group = self._mesh.get_group()
        dist.broadcast(tensor, dist.get_global_rank(group, self._stages - 1), group=group)


class _Losses:
    """The schedule's loss function: of one micro-batch, by its number."""

    def begin(self, parts: Sequence[Batch], loss: Loss, factor: float, scale: Scale) -> None:
        self._parts, self._loss, self._factor, self._scale = parts, loss, factor, scale
        self._values: dict[int, Tensor] = {}

    def __call__(self, outputs: Tensor, number: Tensor) -> Tensor:
        at = int(number)
        value = weighted_sum(outputs, self._parts[at], self._loss)
        self._values[at] = value.detach()  # one that was asked for twice counts once
        return self._scale(value * self._factor)

    def end(self) -> Tensor:
        values = list(self._values.values())
        self._values, self._parts = {}, []
        return torch.stack(values).double().sum() if values else torch.zeros((), dtype=torch.double)


class _MeasuredStage(PipelineStage):
    """torch's stage, whose passes a record can measure."""

    strategy: Pipelined

    def forward_one_chunk(self, fwd_chunk_id: int, *given: Any, **named: Any) -> Any:
        if self.strategy.record is None:
            return super().forward_one_chunk(fwd_chunk_id, *given, **named)
        with self.strategy.record.passing(self.stage_index, fwd_chunk_id, "forward", self.submod):
            return super().forward_one_chunk(fwd_chunk_id, *given, **named)

    def backward_one_chunk(self, bwd_chunk_id: int, *given: Any, **named: Any) -> Any:
        if self.strategy.record is None:
            return super().backward_one_chunk(bwd_chunk_id, *given, **named)
        with self.strategy.record.passing(self.stage_index, bwd_chunk_id, "backward", self.submod):
            return super().backward_one_chunk(bwd_chunk_id, *given, **named)


class _Added(torch.autograd.Function):
    """Vectors as they are; the gradient of a scalar beside them is 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, extra: Tensor) -> Tensor:
        ctx.like = torch.ones_like(extra)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        return gradients[0], ctx.like


def _rows(batch: Batch, rows: slice) -> Batch:
    inputs = tuple(tensor[rows] for tensor in batch.inputs)
    return Batch(inputs, batch.targets[rows], batch.weights[rows])


def _send(x: Tensor, to: int, group: dist.ProcessGroup) -> None:
    about = torch.tensor([x.dim(), *x.shape, *[0] * (7 - x.dim())], device=x.device)
    dist.send(about, to, group=group)
    dist.send(x.contiguous(), to, group=group)


def _received(come: int, group: dist.ProcessGroup, device: torch.device) -> Tensor:
    about = torch.empty(8, dtype=torch.int64, device=device)
    dist.recv(about, come, group=group)
    dimensions, *sizes = about.tolist()
    x = torch.empty(sizes[:dimensions], device=device)
    dist.recv(x, come, group=group)
    return x
