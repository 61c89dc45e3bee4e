"""Which re-keyed records count: each event once, by where it stands in the events topic."""

import numpy as np
from numpy.typing import NDArray

from features.engine.identities import NOTHING_SEEN


class SeenOrigins:
    """The newest origin of each events partition, and the watermark, of one re-keyed partition.

    The stage before may write a stretch again after a crash, but writes the events of each of its
    partitions in their order; so a record whose origin is not beyond the newest of its partition
    is a repetition. It changes nothing.
    """

    def __init__(self, partitions: int) -> None:
        self._newest = np.full(partitions, -1, dtype=np.int64)
        self._watermark_ms = NOTHING_SEEN

    @property
    def watermark_ms(self) -> int | None:
        """The newest event time so far, milliseconds since the epoch; None before any event."""
        return None if self._watermark_ms == NOTHING_SEEN else self._watermark_ms

    def admit(
        self,
        partitions: NDArray[np.int64],
        offsets: NDArray[np.int64],
        event_times_ms: NDArray[np.int64],
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Take records in log order.

        Returns:
            Whether each is new, shape (n,), and the watermark once it was taken, shape (n,).
        """
        is_new = np.ones(len(offsets), dtype=np.bool_)
        for partition in np.unique(partitions).tolist():
            here = np.flatnonzero(partitions == partition)
            newest = np.maximum.accumulate(np.append(self._newest[partition], offsets[here]))
            is_new[here] = offsets[here] > newest[:-1]
            self._newest[partition] = newest[-1]
        times_ms = np.where(is_new, event_times_ms, self._watermark_ms)
        watermarks_ms = np.maximum(np.maximum.accumulate(times_ms), self._watermark_ms)
        if len(watermarks_ms):
            self._watermark_ms = int(watermarks_ms[-1])
        return is_new, watermarks_ms

    def snapshot(self) -> dict[str, NDArray[np.int64]]:
        """Return the state as plain arrays."""
        return {
            "watermark_ms": np.array([self._watermark_ms], dtype=np.int64),
            "seen_origins": self._newest.copy(),
        }

    def restore(self, watermark_ms: NDArray[np.int64], seen_origins: NDArray[np.int64]) -> None:
        """Put back what :meth:`snapshot` returned; raises ValueError where shapes don't fit."""
        if watermark_ms.shape != (1,) or seen_origins.shape != self._newest.shape:
            raise ValueError(
                f"origins of {seen_origins.shape} partitions, expected {self._newest.shape}"
            )
        self._watermark_ms = int(watermark_ms[0])
        self._newest[:] = seen_origins
