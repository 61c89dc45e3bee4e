"""How many of the predictions that are old enough have got their label.

Predictions are not read for it: each feature record gets one answer, so the offsets of the features
topic count them. The usual delay of a label is the 95th percentile of those that came.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

USUAL = 0.95
MAX_BINS = 128
_DELAYS = 128  # four to each doubling, from 1 s on

Ints = NDArray[np.int64]


@dataclass(slots=True)
class Labelled:
    """Counts labels by bins of event time, ``bin_ms`` wide.

    ``begins`` is partition of the features topic → first offset that counts; of a partition that is
    not in it, the first offset seen. ``bins``: (partition, bin) → [next offset, labels].
    """

    bin_ms: int
    begins: dict[int, int] = field(default_factory=dict)
    bins: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    delays: Ints = field(default_factory=lambda: np.zeros(_DELAYS, np.int64))
    newest_ms: int = 0

    def add(self, partitions: Ints, offsets: Ints, event_ms: Ints, label_ms: Ints) -> None:
        """Count answers of the live path with their labels; all (n,)."""
        for partition in np.unique(partitions).tolist():
            mine = partitions == partition
            first = self.begins.setdefault(partition, int(offsets[mine].min()))
            mine &= offsets >= first
            if not mine.any():
                continue
            numbers = event_ms[mine] // self.bin_ms
            for number in np.unique(numbers).tolist():
                here = offsets[mine][numbers == number]
                found = self.bins.setdefault((partition, number), [0, 0])
                found[0] = max(found[0], int(here.max()) + 1)
                found[1] += len(here)
            delay_s = np.maximum((label_ms - event_ms)[mine] / 1000, 1.0)
            where = np.minimum(4 * np.log2(delay_s), _DELAYS - 1).astype(np.int64)
            np.add.at(self.delays, where, 1)
            self.newest_ms = max(self.newest_ms, int(label_ms[mine].max()))
        self._forget()

    @property
    def usual_delay_ms(self) -> int:
        """The delay within which 95 % of the labels that came have come."""
        total = int(self.delays.sum())
        number = int(np.searchsorted(np.cumsum(self.delays), USUAL * total)) if total else 0
        return int(1000 * 2 ** ((number + 1) / 4))

    def share(self) -> tuple[float, int]:
        """Return the share with a label, and of how many predictions; (1, 0) where none is old."""
        last = (self.newest_ms - self.usual_delay_ms) // self.bin_ms  # this one is not over
        answered = labels = 0
        for partition, first in self.begins.items():
            old = [at for (p, number), at in self.bins.items() if p == partition and number < last]
            if old:
                answered += max(end for end, _ in old) - first
                labels += sum(count for _, count in old)
        return (min(1.0, labels / answered), answered) if answered > 0 else (1.0, 0)

    def _forget(self) -> None:
        """Keep the newest bins: what is dropped moves where counting begins."""
        for partition in self.begins:
            mine = sorted(number for p, number in self.bins if p == partition)
            for number in mine[:-MAX_BINS]:
                end, _ = self.bins.pop((partition, number))
                self.begins[partition] = max(self.begins[partition], end)
