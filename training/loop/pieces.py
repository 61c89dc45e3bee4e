"""Which part of a whole tensor a rank holds: boxes of it, as a checkpoint names them.

A rank holds a tensor whole, or (a DTensor) what its place in a mesh gives it: one box as a rule,
several where two dimensions of the mesh cut the same dimension in turns.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

Range = tuple[int, int, int]
"""Where it begins in the whole tensor, where in this rank's part, and its length."""


@dataclass(frozen=True, slots=True)
class Box:
    """A block: ``offsets`` in the whole tensor, ``starts`` in this rank's part, ``sizes``."""

    offsets: tuple[int, ...]
    starts: tuple[int, ...]
    sizes: tuple[int, ...]

    def of(self, part: Tensor) -> Tensor:
        """Return a view of this box of this rank's ``part``."""
        for dim, (start, size) in enumerate(zip(self.starts, self.sizes, strict=True)):
            part = part.narrow(dim, start, size)
        return part


@dataclass(frozen=True, slots=True)
class Layout:
    """The shape of the whole tensor, and the boxes of it that this rank holds."""

    shape: tuple[int, ...]
    boxes: tuple[Box, ...]


def local(tensor: Tensor) -> Tensor:
    """Return this rank's part; it shares its memory with ``tensor``."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def layout_of(tensor: Tensor) -> Layout:
    """Return which part of ``tensor`` this rank holds."""
    shape = tuple(tensor.shape)
    if not isinstance(tensor, DTensor):
        return Layout(shape, (whole(shape),))
    coordinate = tensor.device_mesh.get_coordinate()
    if coordinate is None:
        return Layout(shape, ())
    held = [torch.arange(size) for size in shape]
    for mesh_dim, placement in enumerate(tensor.placements):
        if placement.is_replicate():
            continue
        dim, ranks = getattr(placement, "dim", None), tensor.device_mesh.size(mesh_dim)
        if dim is None:
            raise ValueError(f"a tensor placed as {placement} can't be stored")
        # FSDP2 over a dimension that tensor parallelism cuts too: in turns, not in a row.
        turns = int(getattr(placement, "split_factor", 1))
        parts = _chunks(held[dim], turns)
        held[dim] = torch.cat([_chunks(part, ranks)[coordinate[mesh_dim]] for part in parts])
    ranges = [_ranges(indices.tolist()) for indices in held]
    boxes = (Box(*map(tuple, zip(*chosen, strict=True))) for chosen in itertools.product(*ranges))
    return Layout(shape, tuple(boxes) if shape else (whole(()),))


def whole(shape: tuple[int, ...]) -> Box:
    """Return the box that is all of a tensor."""
    nothing = (0,) * len(shape)
    return Box(nothing, nothing, shape)


def overlap(a: Box, b: Box) -> tuple[Box, Box] | None:
    """Return what two boxes share, as a part of ``a`` and as a part of ``b``: None for nothing."""
    begins = [max(x, y) for x, y in zip(a.offsets, b.offsets, strict=True)]
    ends = [min(x, y) for x, y in zip(_ends(a), _ends(b), strict=True)]
    sizes = tuple(end - begin for begin, end in zip(begins, ends, strict=True))
    if any(size <= 0 for size in sizes):
        return None
    return _within(a, begins, sizes), _within(b, begins, sizes)


def _within(box: Box, begins: Sequence[int], sizes: tuple[int, ...]) -> Box:
    starts = tuple(
        start + begin - offset
        for start, begin, offset in zip(box.starts, begins, box.offsets, strict=True)
    )
    return Box(tuple(begins), starts, sizes)


def _ends(box: Box) -> list[int]:
    return [offset + size for offset, size in zip(box.offsets, box.sizes, strict=True)]


def _chunks(indices: Tensor, count: int) -> list[Tensor]:
    """Cut as DTensors are cut: equal parts, the last ones smaller or empty."""
    parts = list(torch.chunk(indices, count)) if count > 1 else [indices]
    return parts + [indices[:0]] * (count - len(parts))


def _ranges(indices: list[int]) -> list[Range]:
    """Return the runs of consecutive ``indices``."""
    ranges: list[Range] = []
    for position, index in enumerate(indices):
        if ranges and ranges[-1][0] + ranges[-1][2] == index:
            first, start, length = ranges[-1]
            ranges[-1] = (first, start, length + 1)
        else:
            ranges.append((index, position, 1))
    return ranges
