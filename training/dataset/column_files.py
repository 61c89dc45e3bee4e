"""Arrays on disk that never lie in memory whole: appended to, then mapped; written in blocks."""

import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

BLOCK_ROWS = 4_096


class GrowingArray:
    """Rows of one type and width, appended to a file."""

    def __init__(self, path: Path, dtype: DTypeLike, width: int | None = None) -> None:
        self.path = path
        self._dtype, self._row = np.dtype(dtype), () if width is None else (width,)
        self._rows = 0
        self._file: IO[bytes] = path.open("wb")

    def append(self, rows: NDArray[Any]) -> None:
        """Append rows, (n,) or (n, width)."""
        self._rows += len(rows)
        self._file.write(
            np.ascontiguousarray(rows, self._dtype).data.cast("B") if rows.size else b""
        )

    def close(self) -> None:
        """End the writing."""
        self._file.close()

    def mapped(self) -> NDArray[Any]:
        """End the writing, and return all rows, memory-mapped."""
        self.close()
        shape = (self._rows, *self._row)
        if 0 in shape:
            return np.empty(shape, self._dtype)
        return np.memmap(self.path, self._dtype, "r", shape=shape).view(np.ndarray)


def write_array(
    path: Path, dtype: DTypeLike, shape: tuple[int, ...], blocks: Iterable[NDArray[Any]]
) -> str:
    """Write a .npy file of blocks of its rows, and return its SHA-256 (hex)."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    )
    sha = hashlib.sha256(header.getvalue())
    with path.open("wb") as file:
        file.write(header.getvalue())
        for block in blocks:
            if block.size:
                content = np.ascontiguousarray(block, dtype).data.cast("B")
                sha.update(content)
                file.write(content)
    return sha.hexdigest()


def map_array(path: Path) -> NDArray[Any]:
    """Return the memory-mapped array of a .npy file; OSError or ValueError where it is none."""
    stored = np.load(path, mmap_mode="r", allow_pickle=False)
    array: NDArray[Any] = stored.view(np.ndarray)  # a memmap is slower to index
    return array


def blocks_of(rows: int) -> Iterator[slice]:
    """Yield the stretches in which ``rows`` rows are worked through."""
    for begin in range(0, rows, BLOCK_ROWS):
        yield slice(begin, min(rows, begin + BLOCK_ROWS))
