"""A column of texts as numbers and a vocabulary: 4 bytes per row, however long the texts."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class CodedTexts(Sequence[str]):
    """n texts: row i is ``vocabulary[codes[i]]``; ``codes`` (n,) int32, perhaps memory-mapped."""

    codes: NDArray[np.int32]
    vocabulary: tuple[str, ...]

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> "CodedTexts": ...

    def __getitem__(self, row: int | slice) -> "str | CodedTexts":
        """Return the text of a row, or the column of a stretch of rows."""
        if isinstance(row, slice):
            return CodedTexts(self.codes[row], self.vocabulary)
        return self.vocabulary[int(self.codes[row])]

    def take(self, rows: NDArray[np.int64]) -> "CodedTexts":
        """Return the column of any rows."""
        return CodedTexts(self.codes[rows], self.vocabulary)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.codes)

    def __iter__(self) -> Iterator[str]:
        """Yield the text of each row."""
        return map(self.vocabulary.__getitem__, self.codes.tolist())

    def __eq__(self, other: object) -> bool:
        """Return whether ``other`` is a column of the same texts."""
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def mapped(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each row the number of its text; ``numbers`` are those of the vocabulary."""
        found: NDArray[np.int64] = numbers[self.codes]
        return found


def counted(texts: Sequence[str]) -> Counter[str]:
    """Return how often each text occurs."""
    if not isinstance(texts, CodedTexts):
        return Counter(texts)
    counts = np.bincount(texts.codes, minlength=len(texts.vocabulary)).tolist()
    return Counter({text: n for text, n in zip(texts.vocabulary, counts, strict=True) if n})
