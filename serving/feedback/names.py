"""Texts as numbers without gaps, from which the text can be had again; those unused are let go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from features.engine.slots import EntitySlots
from streams.record_scan import objects_at

Ints = NDArray[np.int64]


class Names:
    """Numbers texts in the order of first appearance; a number takes 48 to 88 bytes and the text.

    The table of :class:`features.engine.slots.EntitySlots` compares texts to the last byte, so two
    of one hash stay apart.
    """

    def __init__(self) -> None:
        self._slots = EntitySlots()

    def __len__(self) -> int:
        """Return how many texts have a number."""
        return len(self._slots)

    @property
    def nbytes(self) -> int:
        """How much memory they take, in bytes."""
        return self._slots.nbytes

    def of(self, texts: Sequence[str]) -> Ints:
        """Return the number of each of n texts, (n,); new ones get the next."""
        return self._slots.of(texts)

    def encoded(self, numbers: Ints) -> list[bytes]:
        """Return the texts (UTF-8) of n numbers, in any order."""
        if not len(numbers):
            return []
        found = self._slots.snapshot(numbers)
        ends = found["entity_ends"]
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        texts = objects_at(found["entity_bytes"].tobytes(), starts, ends - starts)
        return cast("list[bytes]", texts)

    def texts(self, numbers: Ints) -> list[str]:
        """Return the texts of n numbers, in any order."""
        return list(map(bytes.decode, self.encoded(numbers)))

    def keep(self, numbers: Ints) -> None:
        """Let go of all but ``numbers`` (m,), ascending: these become 0 to m − 1."""
        self._slots = EntitySlots.restore(**self._slots.snapshot(numbers))

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return the texts as plain arrays."""
        return self._slots.snapshot(np.arange(len(self)))

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]]) -> Names:
        """Return what :meth:`snapshot` returned; raises ValueError where it is damaged."""
        made = cls()
        made._slots = EntitySlots.restore(arrays["entity_ends"], arrays["entity_bytes"])
        return made
