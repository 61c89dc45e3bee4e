"""Counts of training rows per fine bin and per block of time, of all rows or of a group. numpy."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from training.dataset.texts import CodedTexts, counted
from training.dispersion import MOST_BLOCKS, Blocks, Dispersion

GROUP_ROWS = 500
"""A group of fewer rows has no reference of its own."""
GROUPS_PER_FIELD = 50
GROUP_BLOCKS = 300

Ints = NDArray[np.int64]
Span = tuple[int, int]
GroupColumns = Mapping[str, Sequence[Sequence[str]]]
"""Group field → its column of texts, (n,), per piece of the rows."""


class Tally:
    """The sums. ``starts`` are the fine bins with which each feature's bins begin, ``widths`` how
    many fine ones it has; ``span`` are the first and last event time, None where not known."""

    def __init__(
        self,
        widths: Mapping[str, int],
        starts: Mapping[str, Ints],
        span: Span | None,
        most_blocks: int = MOST_BLOCKS,
    ) -> None:
        self.fine = {name: np.zeros(width, np.int64) for name, width in widths.items()}
        self._starts = starts
        self._blocks = None if span is None else Blocks(*span, most_blocks)

    def add(self, bins: Mapping[str, Ints], times_ms: Ints | None) -> None:
        """Take rows: their fine bins (n,) per feature and their event times (n,)."""
        for name, found in bins.items():
            self.fine[name] += np.bincount(found, minlength=len(self.fine[name]))
        if self._blocks is not None and times_ms is not None:
            coarse = {
                name: np.searchsorted(self._starts[name], found, side="right") - 1
                for name, found in bins.items()
            }
            widths = {name: len(starts) for name, starts in self._starts.items()}
            self._blocks.add(times_ms, coarse, widths)

    def dispersions(self) -> dict[str, Dispersion]:
        """Return how each feature moves by itself; nothing where times are not known."""
        return {} if self._blocks is None else self._blocks.dispersions()


def span_of(times_ms: Sequence[Ints] | None) -> Span | None:
    """Return the first and last of the event times given per piece."""
    known = [times for times in times_ms or () if len(times)]
    if not known:
        return None
    return min(int(t.min()) for t in known), max(int(t.max()) for t in known)


def frequent_groups(columns: GroupColumns) -> dict[str, list[str]]:
    """Return per field the most frequent texts that have rows enough, at most so many."""
    found = {}
    for field, pieces in columns.items():
        counts: Counter[str] = Counter()
        for piece in pieces:
            counts.update(counted(piece))
        enough = (text for text, n in counts.items() if n >= GROUP_ROWS)
        most = sorted(enough, key=lambda text: (-counts[text], text))
        found[field] = sorted(most[:GROUPS_PER_FIELD])
    return found


def coded(texts: Sequence[str], index: Mapping[str, int], other: int) -> Ints:
    """Return the number that ``index`` gives each text, (n,), or ``other``."""
    if isinstance(texts, CodedTexts):
        return texts.mapped(np.array([index.get(t, other) for t in texts.vocabulary], np.int64))
    return np.fromiter((index.get(text, other) for text in texts), np.int64, len(texts))
