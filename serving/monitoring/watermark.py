"""Up to which event time the monitor may assume that everything has come. Pure."""

from collections.abc import Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray


class Watermark:
    """The smallest newest time over all partitions of all inputs, less the allowed lateness.

    The first of ``inputs`` sets the pace. A partition that is at its end and has nothing, or
    nothing of the last ``idle_ms`` before the pace, does not hold the others back; one that is
    not at its end always does.
    """

    def __init__(
        self, inputs: Sequence[str], partitions: int, lateness_ms: int, idle_ms: int
    ) -> None:
        self._inputs, self._partitions = tuple(inputs), partitions
        self._lateness_ms, self._idle_ms = lateness_ms, idle_ms
        self._newest: dict[tuple[str, int], int] = {}

    def note(self, source: str, partition: int, times_ms: NDArray[np.int64]) -> None:
        """Take the times of records that were read."""
        if len(times_ms):
            newest = int(times_ms.max())
            key = (source, partition)
            self._newest[key] = max(newest, self._newest.get(key, newest))

    def value_ms(self, ended: Mapping[str, Set[int]]) -> int | None:
        """Return the watermark, or None while nothing is known; ``ended`` is input → partitions
        that are at their end."""
        pace = [at for (source, _), at in self._newest.items() if source == self._inputs[0]]
        if not pace:
            return None
        idle_before_ms = max(pace) - self._idle_ms
        holding = []
        for source in self._inputs:
            for partition in range(self._partitions):
                newest = self._newest.get((source, partition))
                if partition in ended[source] and (newest is None or newest < idle_before_ms):
                    continue
                if newest is None:
                    return None
                holding.append(newest)
        return min(holding) - self._lateness_ms

    def to_json(self) -> list[list[str | int]]:
        """Return the newest times as JSON types."""
        return [[source, partition, at] for (source, partition), at in self._newest.items()]

    def load(self, content: Sequence[Sequence[str | int]]) -> None:
        """Take over what :meth:`to_json` described."""
        self._newest = {(str(s), int(partition)): int(at) for s, partition, at in content}
