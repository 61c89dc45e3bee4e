"""The unit of work of every stage: consecutive records of one partition."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LogBatch:
    """Records of one partition in log order; all sequences have the same length n.

    ``offsets`` (n,) ascend but may have gaps (compaction, transaction markers);
    ``timestamps_ms`` (n,) are the record timestamps = event times, milliseconds since the epoch.
    ``next_offset`` is where reading goes on; it may lie beyond ``offsets[-1] + 1``.
    """

    topic: str
    partition: int
    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    keys: list[bytes | None]
    values: list[bytes | None]
    next_offset: int

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.values)
