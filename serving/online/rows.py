"""The encoded feature rows of one partition that outcomes may still name: a window of its log.

Rows are encoded once, as they come, into float32 numbers and codes, and found by their offset. What
a network that sees an entity's last events needs is found by links from each row to the entity's
row before it. What counts as held depends on offsets alone, never on how much was read ahead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.records import FeatureRows
from serving.online.learner import Inputs
from training.dataset.encoding import Encoding

_NONE = -1
_FIRST_ROWS = 1024

Ints = NDArray[np.int64]


class EncodedRows:
    """The rows from some offset on.

    Memory: (4 W + 8 C + 16) bytes a row, of W numeric inputs and C categories.

    Args:
        encoding: of the base version.
        last: how many events of an entity the network sees, 0 for the row alone.
        next_offset: where the features log goes on.
    """

    def __init__(self, encoding: Encoding, last: int, next_offset: int) -> None:
        self._encoding, self._last = encoding, last
        self.next_offset = next_offset
        self._used = 0
        self._dropped = 0  # rows let go of: what links count from
        self._newest: dict[str, int] = {}
        self._newest_source = _NONE
        self._allocate(_FIRST_ROWS)

    def __len__(self) -> int:
        """Return how many rows are held."""
        return self._used

    def append(self, rows: FeatureRows, offsets: Ints, next_offset: int, keep_from: int) -> None:
        """Add the rows at ``offsets`` (n,); those before the offset ``keep_from`` may go."""
        n = len(rows)
        if self._used + n > len(self._offsets):
            self._make_room(n, keep_from)
        at = slice(self._used, self._used + n)
        self._numeric[at] = self._encoding.numeric_inputs(rows.numeric)
        self._codes[at] = self._encoding.codes(rows.categories, n)
        self._offsets[at] = offsets
        if self._last:
            self._link(rows, at.start)
        self._used += n
        self.next_offset = next_offset

    def find(self, offsets: Ints) -> Ints:
        """Return the places of the rows at ``offsets`` (n,), −1 where there is none."""
        held = self._offsets[: self._used]
        found = np.searchsorted(held, offsets)
        there = found < self._used
        there[there] = held[found[there]] == offsets[there]
        return np.where(there, found, _NONE)

    def inputs(self, places: Ints, keep_from: int) -> Inputs:
        """Return what the network is called with for the rows at ``places`` (n,).

        Events of a history that stand before the offset ``keep_from`` are left out.
        """
        if not self._last:
            return self._numeric[places], self._codes[places]
        index = np.full((len(places), self._last), _NONE, np.int64)
        at = places
        for column in range(self._last - 1, -1, -1):
            index[:, column] = at
            at = np.where(at == _NONE, _NONE, self._previous[at] - self._dropped)
            at = np.where(at < 0, _NONE, at)
            at = np.where((at != _NONE) & (self._offsets[at] < keep_from), _NONE, at)
        there = index != _NONE
        numeric = np.where(there[:, :, None], self._numeric[index], np.float32(0))
        codes = np.where(there[:, :, None], self._codes[index], 0)
        return numeric, codes, there.sum(axis=1)

    # --- parts -----------------------------------------------------------------------------------

    def _link(self, rows: FeatureRows, begin: int) -> None:
        # Row by row, since an entity may come several times: of histories alone, and cheap beside
        # what their networks cost.
        newest, first = self._newest, self._dropped + begin
        for i, (entity, source) in enumerate(
            zip(rows.entities, rows.source_offsets.tolist(), strict=True)
        ):
            before = newest.get(entity, _NONE)
            if source > self._newest_source:
                self._previous[begin + i] = before
                newest[entity], self._newest_source = first + i, source
            else:  # written again after a crash of the feature stage: it is no further event
                self._previous[begin + i] = _NONE

    def _make_room(self, n: int, keep_from: int) -> None:
        gone = int(np.searchsorted(self._offsets[: self._used], keep_from))
        kept = self._used - gone
        arrays: list[NDArray[Any]] = [self._numeric, self._codes, self._offsets, self._previous]
        self._allocate(max(len(self._offsets), 2 * (kept + n)))
        mine: list[NDArray[Any]] = [self._numeric, self._codes, self._offsets, self._previous]
        for new, old in zip(mine, arrays, strict=True):
            new[:kept] = old[gone : self._used]
        self._used, self._dropped = kept, self._dropped + gone
        self._newest = {e: row for e, row in self._newest.items() if row >= self._dropped}

    def _allocate(self, rows: int) -> None:
        categories = len(self._encoding.category_names)
        self._numeric = np.zeros((rows, self._encoding.numeric_width), np.float32)
        self._codes = np.zeros((rows, categories), np.int64)
        self._offsets = np.zeros(rows, np.int64)
        self._previous = np.full(rows, _NONE, np.int64)
