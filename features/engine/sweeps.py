"""When a stage looks for entities of which nothing can be read any more.

The points are a function of the log alone: the first event by which the watermark has entered a new
generation and at least as many events have passed as there were entities at the last look (and
:data:`FEWEST`). So the work stays below a small constant per event.
"""

import numpy as np
from numpy.typing import NDArray

FEWEST = 4096


class Sweeps:
    """Finds the points; ``remembered_ms`` is how long an entity lives on after its last event."""

    def __init__(self, remembered_ms: int | None) -> None:
        self._generation_ms = None if remembered_ms is None else max(1000, remembered_ms // 4)
        # the generation of the last look, events since, events needed
        self._state = np.array([np.iinfo(np.int64).min, 0, FEWEST], dtype=np.int64)

    def due(self, watermarks_ms: NDArray[np.int64]) -> int:
        """Return the place of the first event before which to look; n if none."""
        n = len(watermarks_ms)
        if self._generation_ms is None:
            return n
        last, since, needed = map(int, self._state)
        place = max(0, needed - since)
        if place < n:
            generations = watermarks_ms[place:] // self._generation_ms
            place += int(np.searchsorted(generations, last, side="right"))
        return min(n, place)

    def passed(self, events: int) -> None:
        """Note that so many events were taken."""
        self._state[1] += events

    def looked(self, watermark_ms: int, entities: int) -> None:
        """Note that it was looked, and how many entities there are now."""
        if self._generation_ms is not None:
            self._state[:] = watermark_ms // self._generation_ms, 0, max(FEWEST, entities)

    def snapshot(self) -> dict[str, NDArray[np.int64]]:
        """Return the state as plain arrays."""
        return {"sweeps": self._state.copy()}

    def restore(self, sweeps: NDArray[np.int64]) -> None:
        """Put back what :meth:`snapshot` returned; raises ValueError where shapes don't fit."""
        if sweeps.shape != self._state.shape:
            raise ValueError(f"sweeps has shape {sweeps.shape}")
        self._state[:] = sweeps
