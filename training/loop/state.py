"""What a run's checkpoint holds: every tensor by the name that it has in the whole network.

===================  =========================================================================
``network``          parameters and buffers
``optimizer/KEY``    the optimiser's state KEY of each parameter
``average``          sums of the moving average, where there is one
``best``             parameters and buffers of the best epoch so far
===================  =========================================================================

Randomness needs no place in it: order, hidden codes and dropout are functions of (seed, epoch,
step, share), and the learning rate of the number of steps.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from streams.errors import TrainingError
from training.loop.averaging import Average
from training.loop.checkpoint_files import Piece, Stored
from training.loop.pieces import Layout, layout_of, local, whole
from training.parallel.place import Place


@dataclass
class State:
    """The tensors of a run as this rank holds them; ``best`` is on the CPU."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    average: Average | None
    best: dict[str, Tensor]

    def parts(self) -> Iterator[tuple[str, str, Tensor]]:
        """Yield (group, name, this rank's part)."""
        for name, tensor in self.module.state_dict().items():
            yield "network", name, local(tensor)
        for name, parameter in self.module.named_parameters():
            for key, value in sorted(self.optimizer.state.get(parameter, {}).items()):
                yield f"optimizer/{key}", name, local(value)
        if self.average is not None:
            for name, tensor in self.average.sums.items():
                yield "average", name, tensor
        for name, tensor in self.best.items():
            yield "best", name, tensor

    def remember_best(self) -> None:
        """Keep the network as it is now as the best."""
        self.best = {
            name: local(tensor).detach().to("cpu", copy=True)
            for name, tensor in self.module.state_dict().items()
        }

    @torch.no_grad()
    def put_best(self) -> None:
        """Put the network into its best state; where none was remembered it stays."""
        for name, tensor in self.module.state_dict().items():
            if name in self.best:
                local(tensor).copy_(self.best[name])

    def restore(self, stored: Stored) -> None:
        """Take everything from a checkpoint, whatever ranks wrote it.

        Raises:
            TrainingError: it lacks a part of what this network has.
        """
        layouts = {name: layout_of(t) for name, t in self.module.state_dict().items()}
        for name, tensor in self.module.state_dict().items():
            stored.fill("network", name, local(tensor), layouts[name])
            if stored.has("best", name):
                self.best[name] = torch.empty_like(local(tensor), device="cpu")
                stored.fill("best", name, self.best[name], layouts[name])
        for group in stored.groups():
            kind, _, key = group.partition("/")
            if kind == "optimizer":
                self._restore_optimizer(stored, group, key, layouts)
        if self.average is not None:
            for name, tensor in self.average.sums.items():
                stored.fill("average", name, tensor, layouts[name])

    def _restore_optimizer(
        self, stored: Stored, group: str, key: str, layouts: Mapping[str, Layout]
    ) -> None:
        for name, parameter in self.module.named_parameters():
            if not stored.has(group, name):
                continue
            shape, dtype = stored.kind(group, name)
            if shape == tuple(parameter.shape):
                value = torch.zeros_like(parameter, dtype=dtype, requires_grad=False)
                stored.fill(group, name, local(value), layouts[name])
            else:  # a number beside the parameter, as Adam's count of steps
                value = torch.zeros(shape, dtype=dtype)
                stored.fill(group, name, value, Layout(shape, (whole(shape),)))
            self.optimizer.state[parameter][key] = value


class Writers:
    """Who writes which piece: of several ranks that hold the same, the first.

    Made by all ranks together; where each rank's parts lie does not change during a run.
    """

    def __init__(self, module: nn.Module, place: Place) -> None:
        state = module.state_dict()
        self._layouts = {name: layout_of(tensor) for name, tensor in state.items()}
        self._shapes = {name: local(tensor).shape for name, tensor in state.items()}
        held = {
            name: [list(box.offsets) for box in layout.boxes]
            for name, layout in self._layouts.items()
        }
        first: dict[str, int] = {}
        for rank, text in enumerate(texts_of_ranks(json.dumps(held), place)):
            for name, offsets in json.loads(text).items():
                for key in [name, *(_key(name, one) for one in offsets)]:
                    first.setdefault(key, rank)
        self._mine = {key for key, rank in first.items() if rank == place.rank}

    def pieces(self, state: State) -> list[Piece]:
        """Return copies, in the CPU's memory, of what this rank is to write."""
        return [piece for part in state.parts() for piece in self._of(*part)]

    def _of(self, group: str, name: str, part: Tensor) -> Iterator[Piece]:
        layout = self._layouts.get(name)
        if layout is None:
            raise TrainingError(f"{group} of {name!r}: the network has no tensor of that name")
        shaped = part.shape == self._shapes[name]  # else a number beside the parameter
        boxes = layout.boxes if shaped else (whole(tuple(part.shape)),)
        for box in boxes:
            if (_key(name, box.offsets) if shaped else name) in self._mine:
                copy = box.of(part.detach()).to(
                    "cpu", copy=True, memory_format=torch.contiguous_format
                )
                shape = layout.shape if shaped else tuple(part.shape)
                yield Piece(group, name, shape, box.offsets, copy)


def texts_of_ranks(text: str, place: Place) -> list[str]:
    """Return every rank's text, by rank; all ranks call it."""
    if place.ranks == 1:
        return [text]
    content = torch.tensor(list(text.encode()), dtype=torch.uint8, device=place.device)
    sizes = [torch.zeros(1, dtype=torch.int64, device=place.device) for _ in range(place.ranks)]
    dist.all_gather(sizes, torch.tensor([len(content)], device=place.device))
    longest = max(int(size) for size in sizes)
    padded = torch.nn.functional.pad(content, (0, longest - len(content)))
    gathered = [torch.empty_like(padded) for _ in range(place.ranks)]
    dist.all_gather(gathered, padded)
    return [
        bytes(one[: int(size)].cpu().numpy()).decode()
        for one, size in zip(gathered, sizes, strict=True)
    ]


def _key(name: str, offsets: tuple[int, ...] | list[int]) -> str:
    return f"{name}@{list(offsets)}"
