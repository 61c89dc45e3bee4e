"""A stretch of the two source streams in the order in which it happened."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Recording:
    """Events and labels to be produced; all sequences have the same length n.

    ``timestamps_ms`` (n,) ascend within a recording and from one recording to the next;
    ``is_label`` (n,) tells labels from events. Rows that don't fit the pipeline's types are
    carried as they are: the log keeps everything, and the processor dead-letters them.
    """

    timestamps_ms: NDArray[np.int64]
    is_label: NDArray[np.bool_]
    keys: list[bytes | None]
    values: list[bytes]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.values)


Reader = Callable[[Path], Iterator[Recording]]
"""Reads a file or folder; raises SourceError where it can't be read at all."""

Generator = Callable[[int, float], Iterator[Recording]]
"""Makes a stream from (seed, scale); scale 1.0 is the demo's size."""
