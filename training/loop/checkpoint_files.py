"""The files of a checkpoint: pieces of tensors as raw bytes, and an index as JSON. No pickle."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streams.errors import TrainingError
from training.loop.pieces import Box, Layout, overlap
from training.loop.run_folder import write_atomically

_ALIGNMENT = 64


class DamagedError(Exception):
    """A checkpoint is not as it was written."""


@dataclass(frozen=True)
class Piece:
    """A box of a tensor of the run, at ``offsets`` in the whole of ``shape``, copied to the CPU."""

    group: str
    name: str
    shape: tuple[int, ...]
    offsets: tuple[int, ...]
    content: Tensor


def write_pieces(path: Path, pieces: list[Piece], about: dict[str, Any]) -> None:
    """Write ``path``.bin, then ``path``.json."""
    digest, tensors, at = hashlib.sha256(), [], 0
    with path.with_name(path.name + ".bin").open("wb") as file:
        for piece in pieces:
            content = piece.content.reshape(-1).view(torch.uint8).numpy().data
            padding = bytes(-at % _ALIGNMENT)
            for block in (padding, content):
                digest.update(block)
                file.write(block)
            at += len(padding)
            tensors.append({
                "group": piece.group, "name": piece.name, "shape": piece.shape, "at": at,
                "offsets": piece.offsets, "sizes": tuple(piece.content.shape),
                "dtype": str(piece.content.dtype).removeprefix("torch."),
            })  # fmt: skip
            at += len(content)
        file.flush()
        os.fsync(file.fileno())
    index = {**about, "bytes": at, "sha256": digest.hexdigest(), "tensors": tensors}
    text = json.dumps(index).encode()
    head = hashlib.sha256(text).hexdigest().encode()
    write_atomically(path.with_name(path.name + ".json"), head + b"\n" + text)


@dataclass(frozen=True)
class _Part:
    file: Path
    at: int
    dtype: torch.dtype
    box: Box

    def tensor(self) -> Tensor:
        """Return the stored box, memory-mapped."""
        size = self.dtype.itemsize
        for length in self.box.sizes:
            size *= length
        raw = np.memmap(self.file, np.uint8, "c", self.at, (size,))
        return torch.from_numpy(raw).view(self.dtype).reshape(self.box.sizes)


class Stored:
    """A checkpoint on disk.

    Raises:
        DamagedError: a file is missing or not as it was written.
    """

    def __init__(self, folder: Path) -> None:
        first = _index(folder, 0)
        self._folder = folder
        self._indices = [first, *(_index(folder, rank) for rank in range(1, int(first["ranks"])))]
        self.digest, self.ranks = str(first["digest"]), int(first["ranks"])
        self.run: dict[str, Any] = first["run"]
        self._parts: dict[tuple[str, str], tuple[tuple[int, ...], list[_Part]]] = {}
        for rank, index in enumerate(self._indices):
            file = folder / f"{file_of(rank)}.bin"
            for told in index["tensors"]:
                sizes, offsets = tuple(told["sizes"]), tuple(told["offsets"])
                box = Box(offsets, (0,) * len(sizes), sizes)
                part = _Part(file, told["at"], getattr(torch, told["dtype"]), box)
                key = (told["group"], told["name"])
                self._parts.setdefault(key, (tuple(told["shape"]), []))[1].append(part)

    def own(self, rank: int) -> dict[str, Any]:
        """Return what the rank told of itself."""
        own: dict[str, Any] = self._indices[rank]["own"]
        return own

    def verify(self, ranks: range) -> None:
        """Read the files of some ranks; raises DamagedError."""
        for rank in ranks:
            path, index = self._folder / f"{file_of(rank)}.bin", self._indices[rank]
            try:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256")
            except OSError as error:
                raise DamagedError(f"{path.name}: {error}") from error
            if digest.hexdigest() != index["sha256"]:
                raise DamagedError(f"{path.name} is not what was written")

    def groups(self) -> list[str]:
        """Return the groups that there are."""
        return sorted({group for group, _ in self._parts})

    def has(self, group: str, name: str) -> bool:
        """Return whether there is such a tensor."""
        return (group, name) in self._parts

    def kind(self, group: str, name: str) -> tuple[tuple[int, ...], torch.dtype]:
        """Return the shape of a whole tensor, and its type."""
        shape, parts = self._parts[group, name]
        return shape, parts[0].dtype

    @torch.no_grad()
    def fill(self, group: str, name: str, part: Tensor, layout: Layout) -> None:
        """Copy into this rank's ``part`` of a tensor what is stored of it.

        Raises:
            TrainingError: not all of it is stored, or the whole has another shape.
        """
        shape, stored = self._parts.get((group, name), ((), []))
        filled = 0
        for box in layout.boxes if shape == layout.shape else ():
            for one in stored:
                shared = overlap(box, one.box)
                if shared is not None:
                    into, source = shared
                    into.of(part).copy_(source.of(one.tensor()))
                    filled += into.of(part).numel()
        wanted = sum(box.of(part).numel() for box in layout.boxes)
        if filled != wanted or (wanted and shape != layout.shape):
            raise TrainingError(
                f"the checkpoint {self._folder} has {filled:,} of {wanted:,} numbers of {group} "
                f"of {name!r} {list(layout.shape)}: it was written by another network; remove it "
                "and train from the start"
            )


def _index(folder: Path, rank: int) -> dict[str, Any]:
    path = folder / f"{file_of(rank)}.json"
    try:
        head, _, text = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise DamagedError(f"{path.name}: {error}") from error
    if hashlib.sha256(text).hexdigest().encode() != head:
        raise DamagedError(f"{path.name} is not what was written")
    index: dict[str, Any] = json.loads(text)
    return index


def file_of(rank: int) -> str:
    """Return how a rank's two files are called, without their endings."""
    return f"rank-{rank:05d}"
