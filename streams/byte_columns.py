"""Columns of byte strings, in one buffer: what compiled loops take in place of Python objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NULL = -1
"""Length of what is absent."""


@dataclass(frozen=True, slots=True)
class ByteColumn:
    """n byte strings: the i-th is ``data[starts[i] : starts[i] + lengths[i]]``.

    ``starts`` and ``lengths`` have the shape (n,); a length of :data:`NULL` says that there is
    none. ``data`` may hold more than the strings.
    """

    data: bytes
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of strings."""
        return len(self.lengths)

    def at(self, places: NDArray[np.int64]) -> ByteColumn:
        """Return the strings at some places; the buffer is shared."""
        return ByteColumn(self.data, self.starts[places], self.lengths[places])

    @classmethod
    def of(cls, items: Sequence[bytes | None]) -> ByteColumn:
        """Return the column of some strings."""
        try:
            data = b"".join(items)  # type: ignore[arg-type]
        except TypeError:  # some are None
            data = b"".join(item for item in items if item is not None)
            return cls._packed(data, [NULL if item is None else len(item) for item in items])
        return cls._packed(data, list(map(len, items)))  # type: ignore[arg-type]

    @classmethod
    def of_texts(cls, items: Sequence[str]) -> ByteColumn:
        """Return the column of some texts, in UTF-8."""
        text = "".join(items)
        data = text.encode()
        if len(data) != len(text):
            return cls.of([item.encode() for item in items])
        return cls._packed(data, list(map(len, items)))

    @classmethod
    def _packed(cls, data: bytes, lengths: list[int]) -> ByteColumn:
        sizes = np.array(lengths, dtype=np.int64)
        ends = np.cumsum(np.maximum(sizes, 0))
        starts = ends - np.maximum(sizes, 0)
        return cls(data, starts, sizes)
